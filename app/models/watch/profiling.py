"""The profile of a model from rows of a file: `madrone profile`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.codecs.categories import FloatArray
from app.codecs.columns import csv, parquet
from app.codecs.rules import match_columns
from app.config.settings import Settings
from app.drift.profile import Profile, make_profile
from app.errors import ServiceError
from app.feature import Feature
from app.models.loader import load_preferred
from app.models.registry.source import ModelSource

SUFFIXES = (".csv", ".parquet")


class DataRefused(Exception):
    """The rows of a file are not rows of the model; the message says why."""


class Profiled(NamedTuple):
    """The profile of a model.

    Attributes:
        digest: Digest of the model's files.
        version: Version of the model.
        own: The profile that came with the model, where one did.
        made: The profile made from the file.
    """

    digest: str
    version: str
    own: Profile | None
    made: Profile


def profile_model(settings: Settings, source: ModelSource, data: Path) -> Profiled:
    """Fetch, build and check the model that the settings prefer, and describe the rows of a file and its predictions.

    Args:
        settings: Settings that name the model.
        source: Its registry or place, which the caller closes.
        data: CSV or Parquet file with the model's features, and any other columns.

    Raises:
        DataRefused: The file's rows cannot be used.
        NothingToServe: There is no such model.
        ModelRefused: The model cannot be served.
        RegistryUnreachable: The registry does not answer.
        OSError: The file cannot be read, or this machine cannot load the model.
    """
    content = data.read_bytes()
    served = load_preferred(settings, source)
    artifact = served.artifact
    rows = read_rows(content, data.suffix, artifact.features, settings.max_bulk_rows)
    prediction = served.engine.predict(rows)
    made = make_profile(artifact.features, rows, prediction, "profile", artifact.watched)
    return Profiled(artifact.digest, served.identity.version, artifact.profile, made)


def read_rows(content: bytes, suffix: str, features: tuple[Feature, ...], most: int) -> FloatArray:
    """Read the columns of features from a file that may have others.

    Args:
        content: The file.
        suffix: One of `SUFFIXES`.
        features: The features.
        most: Most rows allowed.

    Returns:
        float64[N, F] in the features' order, N > 0; with codes for categories.

    Raises:
        DataRefused: Columns are missing, or hold values that are none of the features', or there are no rows.
    """
    try:
        if suffix == ".parquet":
            rows = parquet.decode(content, features, most, _places_in_schema)
        else:
            header = csv.read_header(content, features)
            rows = csv.read_lines(content, header, features, _places(header.names, features), most)
    except ServiceError as error:
        raise DataRefused(error.sentences()) from error
    if not len(rows):
        raise DataRefused("It has no rows.")
    return rows


def _places_in_schema(schema: Any, features: tuple[Feature, ...]) -> list[int | None]:
    return match_columns(schema.names, features, schema.types, others=True)


def _places(names: Sequence[str], features: tuple[Feature, ...]) -> list[int | None]:
    """Position of each feature's column in a file that may have others, such as the target."""
    return match_columns(names, features, others=True)
