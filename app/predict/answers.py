"""Schemas of the answers to prediction requests, and their builders.

All numbers of an answer are finite. A row whose prediction, interval or raw score is not finite gets an error.
"""

import time
from collections.abc import Iterable
from itertools import compress, islice, repeat
from math import isfinite
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from app.codecs.classes import class_indices, label_of_one, probabilities, probabilities_of_one
from app.codecs.gil_yield import GilYield
from app.codecs.json.row import Batch
from app.codecs.result import Result
from app.codecs.rules import FloatArray
from app.errors import FieldError, PredictionNotFinite
from app.models.served import ServedModel
from app.predict.exchange import Exchange
from app.predict.explain.explanation import RowExplanation, explained_rows
from app.predict.query import Addition, Asked
from app.predict.result import half_widths, table_answer
from kernels.engine import Evaluation, Outputs, SingleEvaluation

ITEMS = 256
"""Items of an answer that are built before the thread yields the GIL."""

_encode = msgspec.json.Encoder().encode


class ConfidenceInterval(msgspec.Struct, frozen=True, gc=False):
    """Bounds that contain the true value with probability `level`."""

    lower: float
    upper: float
    level: float


Label = str | float | bool
"""Label of a class. In JSON a whole number is a number too, so that JSON Schema needs no type for it."""


class PredictionResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer for one row.

    Attributes:
        label: Label of the most probable class, the first of equally probable ones.
        probabilities: Probability of each class, in the order of the model's labels.
        raw_score: Sum of the leaf values, without the objective's transformation.
        explanation: What each feature adds to the raw score.
        leaves: Leaf that the row reaches in each tree, as LightGBM numbers them.
    """

    prediction: float | list[float]
    label: Label | UnsetType = UNSET
    probabilities: list[float] | UnsetType = UNSET
    raw_score: float | list[float] | UnsetType = UNSET
    explanation: RowExplanation | UnsetType = UNSET
    leaves: list[int] | UnsetType = UNSET
    model_version: str
    model_stage: str | None
    confidence_interval: ConfidenceInterval | None
    request_id: str
    processing_time_ms: float
    warnings: list[str]


class PredictedItem(msgspec.Struct, frozen=True, tag_field="status", tag="predicted", gc=False):
    """Predicted row of a batch; for the last five fields see `PredictionResponse`."""

    index: int
    prediction: float | list[float]
    confidence_interval: ConfidenceInterval | None
    warnings: list[str]
    label: Label | UnsetType = UNSET
    probabilities: list[float] | UnsetType = UNSET
    raw_score: float | list[float] | UnsetType = UNSET
    explanation: RowExplanation | UnsetType = UNSET
    leaves: list[int] | UnsetType = UNSET


class FailedItem(msgspec.Struct, frozen=True, tag_field="status", tag="failed", gc=False):
    """Row of a batch that was not valid, or whose prediction is not finite."""

    index: int
    errors: tuple[FieldError, ...]


class BatchResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for a batch: an item for each row, in the order of the request."""

    predictions: list[PredictedItem | FailedItem]
    total_predictions: int
    successful_predictions: int
    failed_predictions: int
    batch_id: str | None
    model_version: str
    model_stage: str | None
    request_id: str
    processing_time_ms: float


def row_answer(
    request_id: str, served: ServedModel, rows: FloatArray, evaluation: SingleEvaluation, asked: Asked,
    started: float, unseen: tuple[str, ...] = (), explained: Evaluation | None = None,
) -> bytes:  # fmt: skip
    """The answer for one row, as JSON.

    Args:
        request_id: Id of the request.
        served: The model.
        rows: float64[1, F], the row.
        evaluation: Its evaluation.
        asked: What the request asks for.
        started: When the request began.
        unseen: Warnings of `decode_row`.
        explained: The evaluation with an explanation or leaves, where they were asked for.

    Raises:
        PredictionNotFinite: A number of the answer is not finite.
    """
    prediction, raw_score = evaluation.prediction, evaluation.raw_score
    interval = _interval(served, evaluation, asked.level)
    finite = _is_finite(prediction, interval) and (raw_score is None or _is_finite(raw_score, None))
    if not finite or (explained is not None and not table_answer(served, explained, asked).finite(0, 1)[0]):
        faults = table_answer(served, explained or evaluation.batch(), asked).faults(0)
        raise PredictionNotFinite("The model has no finite answer to this row.", faults, rows=1)
    warnings = served.warnings_of_one(rows[0].tolist(), evaluation.distance)
    answer = PredictionResponse(
        prediction=prediction,
        model_version=served.identity.version,
        model_stage=served.identity.stage,
        confidence_interval=interval,
        request_id=request_id,
        processing_time_ms=_milliseconds(started),
        warnings=[*unseen, *warnings] if unseen else warnings,
    )
    if asked.additions:
        added = _added_to_one(served, prediction, raw_score, asked.additions)
        answer = msgspec.structs.replace(answer, **added)
    if explained is not None:
        explanations, leaves = explained_rows(served, rows, explained, asked)
        answer = msgspec.structs.replace(answer, explanation=next(explanations), leaves=next(leaves))
    return _encode(answer)


def _added_to_one(
    served: ServedModel, prediction: Outputs, raw_score: Outputs | None, additions: tuple[Addition, ...]
) -> dict[str, Any]:
    """Label, probabilities and raw score of a row, as far as they are asked for."""
    added: dict[str, Any] = {}
    if "label" in additions and served.labels is not None:
        added["label"] = label_of_one(prediction, served.labels)
    if "probabilities" in additions:
        added["probabilities"] = probabilities_of_one(prediction)
    if raw_score is not None and "raw_score" in additions:
        added["raw_score"] = raw_score
    return added


def _is_finite(numbers: Outputs, interval: ConfidenceInterval | None) -> bool:
    """Whether all numbers of a row's answer are finite, without the overhead of NumPy for one row."""
    if isinstance(numbers, list):
        return all(map(isfinite, numbers))
    return isfinite(numbers) and (interval is None or (isfinite(interval.lower) and isfinite(interval.upper)))


class BatchAnswer(NamedTuple):
    """The answer for a batch.

    Attributes:
        body: Answer as JSON.
        rows: float64[B, F], the rows that were predicted.
        evaluation: Evaluation of these rows.
        not_finite: Number of valid rows whose prediction is not finite; they are among the errors.
        places: Index in the request of each of the B rows; None if there are no other rows.
    """

    body: bytes
    rows: FloatArray
    evaluation: Evaluation
    not_finite: int
    places: tuple[int, ...] | None


def batch_answer(
    exchange: Exchange, served: ServedModel, batch: Batch, evaluation: Evaluation, asked: Asked, started: float
) -> BatchAnswer:
    """Build the answer for a batch."""
    valid = len(batch.rows)
    batch, evaluation = _finite_rows(batch, evaluation, table_answer(served, evaluation, asked))
    predicted = map(
        PredictedItem,
        batch.positions,
        evaluation.prediction.tolist(),
        _intervals(served, evaluation, asked.level),
        _warnings(served, batch, evaluation),
        *_added(served, evaluation, asked.additions),
        *explained_rows(served, batch.rows, evaluation, asked),
    )
    items: list[PredictedItem | FailedItem] = []
    yield_gil = GilYield()
    while part := list(islice(predicted, ITEMS)):
        items += part
        if len(part) == ITEMS:  # a large batch, and so in a thread
            yield_gil()
    if batch.errors:
        items += [FailedItem(position, errors) for position, errors in batch.errors.items()]
        items.sort(key=lambda item: item.index)
    response = BatchResponse(
        predictions=items,
        total_predictions=batch.size,
        successful_predictions=len(batch.positions),
        failed_predictions=len(batch.errors),
        batch_id=batch.batch_id,
        model_version=served.identity.version,
        model_stage=served.identity.stage,
        request_id=exchange.request_id,
        processing_time_ms=_milliseconds(started),
    )
    places = batch.positions if batch.errors else None
    return BatchAnswer(_encode(response), batch.rows, evaluation, valid - len(batch.rows), places)


def _warnings(served: ServedModel, batch: Batch, evaluation: Evaluation) -> list[list[str]]:
    """Warnings about each valid row of a batch: those of its decoding, and of its values."""
    warnings = served.warnings(batch.rows, evaluation)
    if batch.warnings:
        positions = zip(batch.positions, warnings, strict=True)
        warnings = [[*batch.warnings.get(position, ()), *others] for position, others in positions]
    return warnings


def _added(served: ServedModel, evaluation: Evaluation, additions: tuple[Addition, ...]) -> list[Iterable[Any]]:
    """Labels, probabilities and raw scores of the rows, unset for all rows where they are not asked for."""
    prediction, labels, raw = evaluation.prediction, served.labels, evaluation.raw_score
    columns: list[Iterable[Any]] = [repeat(UNSET), repeat(UNSET), repeat(UNSET)]
    if "label" in additions and labels is not None:
        columns[0] = map(labels.__getitem__, class_indices(prediction, labels).tolist())
    if "probabilities" in additions:
        columns[1] = probabilities(prediction).tolist()
    if "raw_score" in additions and raw is not None:
        columns[2] = raw.tolist()
    return columns


def _finite_rows(batch: Batch, evaluation: Evaluation, result: Result) -> tuple[Batch, Evaluation]:
    """The batch with its rows that have no finite prediction moved to its errors."""
    finite = result.finite(0, result.rows)
    if finite.all():
        return batch, evaluation
    failed = {batch.positions[row]: result.faults(row) for row in np.flatnonzero(~finite).tolist()}
    left = msgspec.structs.replace(
        batch,
        rows=batch.rows[finite],
        positions=tuple(compress(batch.positions, finite.tolist())),
        errors=batch.errors | failed,
    )
    return left, evaluation.of(finite)


def _intervals(served: ServedModel, evaluation: Evaluation, level: float | None) -> list[ConfidenceInterval | None]:
    """The interval of each row, or None for each."""
    widths = half_widths(served, evaluation, level)
    if widths is None or level is None:
        return [None] * len(evaluation.prediction)
    bounds = (evaluation.prediction - widths).tolist(), (evaluation.prediction + widths).tolist()
    return [ConfidenceInterval(lower, upper, level) for lower, upper in zip(*bounds, strict=True)]


def _interval(served: ServedModel, evaluation: SingleEvaluation, level: float | None) -> ConfidenceInterval | None:
    """The interval of a single row: the same numbers as `_intervals`, without the overhead of NumPy."""
    intervals, prediction, difficulty = served.artifact.intervals, evaluation.prediction, evaluation.difficulty
    if intervals is None or difficulty is None or level is None or isinstance(prediction, list):
        return None
    half_width = intervals.half_width_of_one(difficulty, level)
    return ConfidenceInterval(prediction - half_width, prediction + half_width, level)


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1e3, 3)
