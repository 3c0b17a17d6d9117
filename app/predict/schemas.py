"""What the prediction routes answer with, as JSON."""

from typing import Any

import msgspec

from app.errors import FieldError
from app.feature import Feature


class ConfidenceInterval(msgspec.Struct, frozen=True, gc=False):
    """Bounds that hold the true value with probability `level`."""

    lower: float
    upper: float
    level: float


class PredictionResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer for one row."""

    prediction: float | list[float]
    model_version: str
    model_stage: str | None
    confidence_interval: ConfidenceInterval | None
    request_id: str
    processing_time_ms: float
    warnings: list[str]


class PredictedItem(msgspec.Struct, frozen=True, tag_field="status", tag="predicted", gc=False):
    """A row of a batch that was predicted."""

    index: int
    prediction: float | list[float]
    confidence_interval: ConfidenceInterval | None
    warnings: list[str]


class FailedItem(msgspec.Struct, frozen=True, tag_field="status", tag="failed", gc=False):
    """A row of a batch that was not valid, or to which the model has no finite answer."""

    index: int
    errors: tuple[FieldError, ...]


class BatchResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for a batch: an item for each row, in the request's order."""

    predictions: list[PredictedItem | FailedItem]
    total_predictions: int
    successful_predictions: int
    failed_predictions: int
    batch_id: str | None
    model_version: str
    model_stage: str | None
    request_id: str
    processing_time_ms: float


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the model in use."""

    name: str
    version: str
    stage: str | None
    aliases: tuple[str, ...]
    run_id: str | None
    digest: str
    resolved_by: str
    loaded_at: str
    objective: str
    trees: int
    model_features: int
    features: tuple[Feature, ...]
    metrics: dict[str, float]
    example: dict[str, Any] | None
    interval_levels: tuple[float, ...]
    default_interval_level: float | None
    outside_distance: float | None
    reference_rows: int
