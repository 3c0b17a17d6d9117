"""The profile of a model from rows of a file: `madrone profile`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.codecs.categories import FloatArray
from app.codecs.columns import csv, parquet
from app.codecs.rules import match_columns
from app.config.settings import Settings
from app.drift.profile import Profile, make_profile
from app.errors import FieldError, InvalidInput, ServiceError
from app.feature import Feature
from app.models.disk.batch_costs import BatchCosts
from app.models.disk.store import ModelStore
from app.models.loader import ModelLoader
from app.models.registry.source import ModelSource, NothingToServe

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
    store = ModelStore(settings.data_dir / "models", settings.source_uri, settings.model_name, 1)
    loader = ModelLoader(settings, source, store, BatchCosts(settings.data_dir / "calibrations.json"))
    offer = source.look()
    if not offer.candidates:
        raise NothingToServe(offer.problem)
    served = loader.load(offer.candidates[0], None, keep=False)
    artifact = served.artifact
    rows = _rows(content, data.suffix, artifact.features, settings.max_bulk_rows)
    prediction = served.engine.predict(rows)
    made = make_profile(artifact.features, rows, prediction, "profile", artifact.watched)
    return Profiled(artifact.digest, served.identity.version, artifact.profile, made)


def _rows(content: bytes, suffix: str, features: tuple[Feature, ...], most: int) -> FloatArray:
    try:
        if suffix == ".parquet":
            rows = parquet.decode(content, features, most, _places_in_schema)
        else:
            header = csv.read_header(content, features)
            rows = csv.read_lines(content, header, features, _places(header.names, features), most)
    except ServiceError as error:
        raise DataRefused(_described(error)) from error
    if not len(rows):
        raise DataRefused("It has no rows.")
    return rows


def _places_in_schema(schema: Any, features: tuple[Feature, ...]) -> list[int | None]:
    return _places(schema.names, features)


def _places(names: Sequence[str], features: tuple[Feature, ...]) -> list[int | None]:
    """Position of each feature's column in a file that may have others, such as the target."""
    known = {feature.name for feature in features}
    own = [place for place, name in enumerate(names) if name in known]
    found = match_columns([names[place] for place in own], features)
    return [None if place is None else own[place] for place in found]


def _described(error: ServiceError) -> str:
    errors: tuple[FieldError, ...] = error.errors if isinstance(error, InvalidInput) else ()
    return " ".join([error.detail, *(f"{fault.field} {fault.message}." for fault in errors[:10])])
