"""Predictions as the prediction log takes them."""

from typing import Any

from numpy.typing import NDArray

from app.codecs.rules import FloatArray
from app.models.served import ServedModel
from app.prediction_log.durable import DurableLog
from app.prediction_log.log import PredictionLog


def logged(request_id: str, kind: str, served: ServedModel, rows: FloatArray, predictions: NDArray[Any]) -> Any:
    """Arguments of `record` of either log, for the rows of a request and their predictions."""
    model = served.identity.name, served.identity.version
    return request_id, kind, model, served.feature_names, rows, predictions, served.categories


async def flushed(
    log: PredictionLog | DurableLog, request_id: str, kind: str, served: ServedModel, rows: FloatArray,
    predictions: NDArray[Any],
) -> None:  # fmt: skip
    """If the log is durable, wait until the rows of a request are on the disk.

    Raises:
        PredictionLogUnavailable: They cannot be written; nothing of them is kept.
    """
    if isinstance(log, DurableLog) and len(rows):
        await log.record(*logged(request_id, kind, served, rows, predictions))
