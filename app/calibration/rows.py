"""Rows of a file with their actual values, read as the service reads requests."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.calibration.errors import CalibrationRefused
from app.codecs.columns import csv
from app.codecs.rules import FloatArray
from app.errors import ServiceError
from app.feature import Feature
from app.models.served import ServedModel
from app.models.watch.profiling import DataRefused, read_rows

SHOWN = 10
"""Most columns that a message lists."""

MAX_ROWS = 10_000_000

INDEX = re.compile("(__index_level_[0-9]+__)?")
"""Names under which pandas writes the index of a frame: to Parquet, and none to CSV."""

LARGEST = float(np.finfo(np.float32).max)
"""Largest target: LightGBM holds targets and errors in float32."""


class Rows(NamedTuple):
    """Rows with actual values.

    Attributes:
        target: Name of the target's column.
        features: float64[N, F], the model's raw features, with codes for categories.
        actual: float64[N], the target; of a classifier whose labels are known, the index of the label.
        sha256: SHA-256 of the file, in hexadecimal digits.
    """

    target: str
    features: FloatArray
    actual: FloatArray
    sha256: str


def read_labelled(data: Path, served: ServedModel, target: str | None) -> Rows:
    """Read the model's features and the target from a CSV or Parquet file.

    Args:
        data: The file.
        served: The model.
        target: Name of the target's column; None for the one column that is no feature.

    Raises:
        CalibrationRefused: Columns are missing, or hold values that the model does not take, or a target is missing.
        OSError: The file cannot be read.
    """
    content, features = data.read_bytes(), served.artifact.features
    try:
        columns = _columns(content, data.suffix, features)
        target = target or _only_other(columns, features)
        if target not in columns:
            raise CalibrationRefused(f"{data} has no column {target}, which is to be the target")
        if target in served.feature_names:
            raise CalibrationRefused(f"{target} is a feature of the model, and cannot be its target")
        column = Feature(name=target)
        if served.labels is not None:
            column = Feature(name=target, kind="category", categories=served.labels, unseen="refuse")
        rows = read_rows(content, data.suffix, (*features, column), MAX_ROWS)
    except DataRefused as error:
        raise CalibrationRefused(f"{data} cannot be used: {str(error).removesuffix('.')}") from error
    actual = np.ascontiguousarray(rows[:, -1])
    if missing := int(np.isnan(actual).sum()):
        raise CalibrationRefused(f"the target {target} is missing in {missing} of {len(rows)} rows")
    if large := int((np.abs(actual) > LARGEST).sum()):
        raise CalibrationRefused(f"the target {target} is beyond {LARGEST:.4g} in {large} of {len(rows)} rows")
    return Rows(target, np.ascontiguousarray(rows[:, :-1]), actual, hashlib.sha256(content).hexdigest())


def _columns(content: bytes, suffix: str, features: tuple[Feature, ...]) -> list[str]:
    try:
        if suffix == ".parquet":
            return list(pq.read_schema(pa.BufferReader(content)).names)
        return csv.read_header(content, features).names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataRefused("It is not a valid Parquet file.") from error
    except ServiceError as error:
        raise DataRefused(error.detail) from error


def _only_other(columns: Sequence[str], features: Sequence[Feature]) -> str:
    """The one column that is no feature."""
    known = {feature.name for feature in features}
    others = [name for name in columns if name not in known and not INDEX.fullmatch(name)]
    if len(others) == 1:
        return others[0]
    if not others:
        raise CalibrationRefused("the file has no column beside the model's features, and so no target")
    if lacking := sorted({feature.name for feature in features if feature.required} - {*columns}):
        raise CalibrationRefused(f"the file has no column {lacking[0]}, which is a feature of the model")
    shown = ", ".join(others[:SHOWN]) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "")
    raise CalibrationRefused(f"--target must name one of the columns that are no features: {shown}")
