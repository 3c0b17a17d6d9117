"""What the page shows of the model in use beside `/predict/model/info`: its reference, and a map: `/console/model`.

The map is what the model itself holds: the lines and places of its feature plan, and where its stored rows are.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from litestar import get

from app.console.page import PREFIX, Named, chosen
from app.container import InjectedServices
from app.drift.profile import Profile
from app.models.artifact import Artifact
from app.models.refusal import Check
from kernels.plan.plan import PointDistance, PolylineDistance

LATITUDES = ("latitude", "lat")
LONGITUDES = ("longitude", "lon", "lng", "long")
"""Names of features that are coordinates, in any case."""

CELLS = 60
"""Cells of the map along its longer side."""

MOST_PLACES = 200
"""Most lines, and most places, of a map."""


class Place(NamedTuple):
    """A named point, in degrees."""

    name: str
    latitude: float
    longitude: float


class Line(NamedTuple):
    """A named line: its vertices (latitude, longitude), in degrees."""

    name: str
    vertices: tuple[tuple[float, float], ...]


class Cells(msgspec.Struct, frozen=True):
    """Stored rows on a grid.

    Attributes:
        size: Side of a cell in degrees.
        cells: (latitude, longitude) of the south-west corner of each cell that has rows, and their number.
    """

    size: float
    cells: tuple[tuple[float, float, int], ...]


class Map(msgspec.Struct, frozen=True, kw_only=True):
    """A map for a model with coordinates.

    Attributes:
        latitude: Name of the feature.
        longitude: Name of the feature.
        south_north: Latitudes of its edges.
        west_east: Longitudes of its edges.
        lines: Lines of the feature plan, such as a coast.
        places: Points of the feature plan, such as towns.
        rows: Where the model's stored rows are; None where it stores none.
    """

    latitude: str
    longitude: str
    south_north: tuple[float, float]
    west_east: tuple[float, float]
    lines: tuple[Line, ...]
    places: tuple[Place, ...]
    rows: Cells | None


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the model in use.

    Attributes:
        digest: Digest of the model's files.
        outputs: Numbers that it predicts for a row.
        checks: Checks that it passed before it was served.
        reference: How its training rows are spread, or those that drift is measured against; None without any.
        map: None for a model without coordinates.
    """

    digest: str
    outputs: int
    checks: tuple[Check, ...]
    reference: Profile | None
    map: Map | None


@get(PREFIX + "/model", include_in_schema=False)
async def model_facts(services: InjectedServices, model: Named = None) -> ModelFacts:
    """Facts about the model in use; 503 while there is none."""
    served = chosen(services, model).slot.require()
    artifact = served.artifact
    return ModelFacts(
        digest=artifact.digest,
        outputs=artifact.forest.n_outputs,
        checks=served.checks,
        reference=artifact.profile,
        map=map_of(artifact),
    )


def map_of(artifact: Artifact) -> Map | None:
    """The map of a model; None if it has no coordinates, or if nothing says where its rows are."""
    ranges = {feature.name: feature.training_range or feature.physical_range for feature in artifact.features}
    latitude, longitude = _coordinate(ranges, LATITUDES), _coordinate(ranges, LONGITUDES)
    if latitude is None or longitude is None:
        return None
    south_north, west_east = ranges[latitude], ranges[longitude]
    if south_north is None or west_east is None:
        return None
    steps = artifact.plan.steps if artifact.plan else ()
    lines = [Line(_title(step.output), step.vertices) for step in steps if isinstance(step, PolylineDistance)]
    places = [Place(_title(step.output), *step.point) for step in steps if isinstance(step, PointDistance)]
    return Map(
        latitude=latitude,
        longitude=longitude,
        south_north=south_north,
        west_east=west_east,
        lines=tuple(lines[:MOST_PLACES]),
        places=tuple(places[:MOST_PLACES]),
        rows=_cells(artifact, latitude, longitude),
    )


def _coordinate(names: dict[str, Any], wanted: tuple[str, ...]) -> str | None:
    return next((name for name in names if name.lower() in wanted), None)


def _title(output: str) -> str:
    """Name of a place, from the feature that holds the distance to it: `to_los_angeles` is Los Angeles."""
    return output.removeprefix("to_").removeprefix("distance_to_").replace("_", " ").title()


def _cells(artifact: Artifact, latitude: str, longitude: str) -> Cells | None:
    plan, table = artifact.plan, artifact.table
    if plan is None or plan.references is None or table is None:
        return None
    columns = plan.references.columns
    if latitude not in columns or longitude not in columns:
        return None
    rows = table[:, [columns.index(latitude), columns.index(longitude)]]
    size = float(np.ptp(rows, axis=0).max()) / CELLS or 1.0
    corners, counts = np.unique(np.floor(rows / size), axis=0, return_counts=True)
    cells = zip((corners * size).tolist(), counts.tolist(), strict=True)
    return Cells(size, tuple((south, west, count) for (south, west), count in cells))
