"""The feature plan of the California Housing model: where a house stands, said in ways that a tree can split on.

A tree cuts along one axis at a time. Rotated coordinates let it cut across the slanted coast, and distances let it cut
along it. All steps are stateless: only the ranges of the inputs are fitted.
"""

import numpy as np
from numpy.typing import NDArray

from app.training import geography
from app.training.dataset import FEATURES
from kernels.plan import Input, Plan, PointDistance, PolylineDistance, Ratio, Rotation, Step

INPUTS = {
    "MedInc": ("Median income of the block group's households", "10,000 USD a year", (0.0, 100.0)),
    "HouseAge": ("Median age of the block group's houses", "years", (0.0, 500.0)),
    "AveRooms": ("Rooms per household", "", (0.0, 1_000.0)),
    "AveBedrms": ("Bedrooms per household", "", (0.0, 1_000.0)),
    "Population": ("People in the block group", "", (0.0, 1_000_000.0)),
    "AveOccup": ("People per household", "", (0.0, 100_000.0)),
    "Latitude": ("Latitude of the block group, north positive", "degrees", (-90.0, 90.0)),
    "Longitude": ("Longitude of the block group, east positive", "degrees", (-180.0, 180.0)),
}
"""Meaning, unit and physical range of each raw feature (R. Kelley Pace and Ronald Barry, Sparse Spatial
Autoregressions, Statistics and Probability Letters 33, 1997, by way of scikit-learn)."""

ROTATIONS = tuple(degrees for degrees in range(5, 180, 5) if degrees != 90)
"""Degrees by which coordinates are turned: every five but those that give an axis back."""

SHORES = {"coast": geography.COAST, "bay": geography.BAY}
RIDGES = {
    "santa_monica_mountains": geography.SANTA_MONICA_MOUNTAINS,
    "east_bay_hills": geography.EAST_BAY_HILLS,
    "peninsula_ridge": geography.PENINSULA_RIDGE,
}


def fit_plan(features: NDArray[np.float64]) -> Plan:
    """Build the plan, its training ranges taken from the rows.

    Args:
        features: float64[N, 8] in the order of `FEATURES`; the rows that the model is fitted on, and no others.
    """
    low, high = features.min(axis=0).tolist(), features.max(axis=0).tolist()
    inputs = tuple(
        Input(name=name, description=text, unit=unit, physical_range=physical, training_range=(low[index], high[index]))
        for index, (name, (text, unit, physical)) in enumerate(INPUTS.items())
    )
    steps: tuple[Step, ...] = (
        Ratio(output="bedrooms_per_room", numerator="AveBedrms", denominator="AveRooms"),
        *(Rotation(output=f"rotated_{angle}", x="Longitude", y="Latitude", degrees=angle) for angle in ROTATIONS),
        *(_line_distance(name, vertices) for name, vertices in SHORES.items()),
        *(
            PointDistance(output=f"to_{name}", latitude="Latitude", longitude="Longitude", point=point)
            for name, point in geography.PLACES.items()
        ),
        *(_line_distance(name, vertices) for name, vertices in RIDGES.items()),
    )
    return Plan(inputs=inputs, steps=steps, outputs=(*FEATURES, *(step.output for step in steps)))


def _line_distance(name: str, vertices: tuple[tuple[float, float], ...]) -> PolylineDistance:
    return PolylineDistance(output=f"to_{name}", latitude="Latitude", longitude="Longitude", vertices=vertices)
