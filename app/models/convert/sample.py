"""Rows to convert and compare with: the model's input example, or a file of the user's."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from app.models.convert.refused import ConversionRefused

DTYPES: dict[str, Any] = {
    "double": np.float64,
    "float": np.float32,
    "long": np.int64,
    "integer": np.int32,
    "boolean": np.bool_,
    "string": object,
}
"""Types of a signature's columns, with those of the frame that MLflow passes to the model."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in the types that MLflow passes to the model.

    Attributes:
        rows: Columns that the model takes, in its order; at least one row.
        as_array: Whether the model is asked with an array and not with a frame.
        source: Where they come from, to show.
        types: Type of each column in a signature.
        required: Whether each column must be there.
    """

    rows: pd.DataFrame
    as_array: bool
    source: str
    types: tuple[str, ...]
    required: tuple[bool, ...]

    @property
    def given(self) -> Any:
        """The rows as the model is asked with them."""
        return self.rows.to_numpy() if self.as_array else self.rows


def read_sample(model: Any, directory: Path, names: tuple[str, ...] | None, data: Path | None) -> Sample:
    """Rows of a file, or else of the model's input example.

    Args:
        model: `mlflow.models.Model`, read from the MLmodel file.
        directory: Model directory.
        names: Columns that the object was fitted on, if it knows them.
        data: CSV or Parquet file with the raw columns.

    Raises:
        ConversionRefused: There are no rows, or they lack a column.
    """
    schema = model.signature.inputs if model.signature is not None else None
    as_array = schema is not None and schema.is_tensor_spec()
    named = None if schema is None or as_array else [(str(item.name), item) for item in schema.inputs]
    if data is not None:
        text = [] if named is None else [name for name, item in named if item.type.name == "string"]
        rows, source = _read_file(data, text), data.name
    else:
        rows, source = _read_example(model, directory), "the input example"
    if rows is None:
        raise ConversionRefused(
            "the model has no input example to compare with: give rows with --data FILE (CSV or Parquet)"
        )
    if rows.empty:
        raise ConversionRefused(f"{source} has no rows")
    rows.columns = [str(name) for name in rows.columns]
    wanted = [name for name, _ in named] if named is not None else list(names or rows.columns)
    if missing := [name for name in wanted if name not in rows.columns]:
        raise ConversionRefused(f"{source} lacks the columns {', '.join(map(repr, missing[:10]))}")
    rows = rows[wanted].reset_index(drop=True)
    if named is not None:
        types = tuple(item.type.name for _, item in named)
        required = tuple(bool(item.required) for _, item in named)
    else:
        types, required = tuple(_type(rows[name]) for name in wanted), (True,) * len(wanted)
    frame = pd.DataFrame({name: _cast(rows[name], kind, source) for name, kind in zip(wanted, types, strict=True)})
    if as_array and schema is not None:
        frame = frame.astype(schema.inputs[0].type)
    return Sample(rows=frame, as_array=as_array, source=source, types=types, required=required)


def _read_file(path: Path, text: list[str]) -> pd.DataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=dict.fromkeys(text, "object"), float_precision="round_trip")
    except Exception as error:
        raise ConversionRefused(
            f"{path.name} cannot be read as CSV or Parquet: {type(error).__name__}: {error}"
        ) from error


def _read_example(model: Any, directory: Path) -> pd.DataFrame | None:
    try:
        example = model.load_input_example(str(directory))
    except Exception:  # it is no part of the model, and MLflow fails on some in its own ways
        return None
    if hasattr(example, "toarray"):
        example = example.toarray()
    if isinstance(example, dict):
        example = (
            pd.DataFrame(example) if all(isinstance(value, (list, np.ndarray)) for value in example.values()) else None
        )
    if isinstance(example, np.ndarray) and example.ndim == 2:
        example = pd.DataFrame(example)
    return example if isinstance(example, pd.DataFrame) else None


def _type(column: Any) -> str:
    """Type in a signature of a column whose model has none: whole numbers count as numbers."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _type(column.cat.categories.to_series())
    if column.dtype == np.float32:
        return "float"
    if pd.api.types.is_bool_dtype(column.dtype):
        return "boolean"
    return "double" if pd.api.types.is_numeric_dtype(column.dtype) else "string"


def _cast(column: Any, kind: str, source: str) -> Any:
    if isinstance(column.dtype, pd.CategoricalDtype) or kind not in DTYPES:
        return column
    if kind == "string":
        return column.astype(object)
    try:
        return column.astype(DTYPES[kind])
    except (ValueError, TypeError) as error:
        raise ConversionRefused(
            f"column {column.name!r} of {source} has a value that is not of the signature's type {kind}: {error}"
        ) from error
