"""A conversion written as a model directory, and read back as the service does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema, TensorSpec

from app.feature import Category
from app.models.artifact import read_content
from app.models.convert.conversion import Conversion
from app.models.convert.refused import ConversionRefused
from app.models.convert.sample import DTYPES, Sample
from app.models.flavor import ModelParts, save_model
from app.models.refusal import ModelRefused


def write(directory: Path, conversion: Conversion, sample: Sample, *, with_example: bool) -> None:
    """Write the model directory.

    Args:
        directory: Empty or new.
        conversion: The booster.
        sample: Rows that it was compared on, whose columns it takes.
        with_example: Whether the first row becomes the model's input example.

    Raises:
        FileExistsError: The directory is not empty.
        ConversionRefused: The service would refuse the model.
    """
    example = None
    if with_example:
        row = sample.rows.iloc[0]
        example = {str(sample.rows.columns[index]): _value(row.iloc[index]) for index in conversion.columns}
    parts = ModelParts(booster=conversion.text, labels=conversion.labels)
    save_model(directory, parts, _signature(conversion, sample), example)
    try:
        read_content(directory)
    except ModelRefused as error:
        raise ConversionRefused(f"the converted model would not be served: {error}") from error


def _signature(conversion: Conversion, sample: Sample) -> ModelSignature:
    """The columns that the booster takes, in the types of the original's signature."""
    import lightgbm as lgb

    outputs = lgb.Booster(model_str=conversion.text).num_model_per_iteration()
    given = Schema([TensorSpec(np.dtype(np.float64), (-1, outputs))])
    if outputs == 1:
        given = Schema([ColSpec(DataType.double, "prediction")])
    if sample.as_array:
        dtype = sample.rows.dtypes.iloc[0]
        return ModelSignature(Schema([TensorSpec(np.dtype(dtype), (-1, len(conversion.columns)))]), given)
    columns: list[Any] = [
        ColSpec(DataType[sample.types[index]], str(sample.rows.columns[index]), required=sample.required[index])
        for index in conversion.columns
        if sample.types[index] in DTYPES
    ]
    return ModelSignature(Schema(columns), given)


def _value(value: Any) -> Category | None:
    """A value as JSON has it; None where it is missing."""
    value = getattr(value, "item", lambda: value)()
    missing = value is None or str(value) in ("<NA>", "NaT") or (isinstance(value, float) and math.isnan(value))
    return None if missing else value
