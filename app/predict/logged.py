"""Predictions as the prediction log takes them."""

import struct
import time
from typing import Any

import numpy as np

from app.codecs.rules import FloatArray
from app.headers import Headers
from app.models.served import ServedModel
from app.predict.many_rows import Call
from app.prediction_log.durable import DurableLog
from app.prediction_log.log import PredictionLog
from kernels.engine import Evaluation, SingleEvaluation

_bytes_of = struct.Struct("=d").pack

Places = tuple[int, ...] | None
"""Index of each row within its request, for requests of which some rows are not logged."""


def logged(
    call: Call, kind: str, served: ServedModel, rows: FloatArray, evaluation: Evaluation, places: Places = None
) -> Any:
    """Arguments of `record` of either log, for the rows of a request and their evaluation."""
    difficulty = b"" if evaluation.difficulty is None else evaluation.difficulty.tobytes()
    return (
        call.request_id, kind, (served.identity.name, served.identity.version), served.feature_names, rows,
        evaluation.prediction, served.categories, served.artifact.intervals, difficulty, _since(call.begun), places,
        call.headers,
    )  # fmt: skip


def logged_one(
    request_id: str, headers: Headers, served: ServedModel, rows: FloatArray, evaluation: SingleEvaluation, begun: float
) -> Any:
    """The same for a request of one row and its headers, which began at a time of `time.perf_counter`."""
    difficulty = b"" if evaluation.difficulty is None else _bytes_of(evaluation.difficulty)
    predictions = np.array([evaluation.prediction])
    return (
        request_id, "single", (served.identity.name, served.identity.version), served.feature_names, rows,
        predictions, served.categories, served.artifact.intervals, difficulty, _since(begun), None, headers,
    )  # fmt: skip


async def flushed(
    log: PredictionLog | DurableLog, call: Call, kind: str, served: ServedModel, rows: FloatArray,
    evaluation: Evaluation, places: Places = None,
) -> None:  # fmt: skip
    """If the log is durable, wait until the rows of a request are on the disk.

    Raises:
        PredictionLogUnavailable: They cannot be written; nothing of them is kept.
    """
    if isinstance(log, DurableLog) and len(rows):
        await log.record(*logged(call, kind, served, rows, evaluation, places))


def _since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1e3
