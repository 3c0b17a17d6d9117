"""Answers to scoring requests: what MLflow's pyfunc predicts with the model, as JSON."""

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from app.codecs.classes import class_indices, probabilities
from app.codecs.gil_yield import GilYield
from app.codecs.rules import FloatArray
from app.models.served import ServedModel

PIECE_VALUES = 2048
"""Values that are encoded in one call, in less than a millisecond."""

_ENCODE = msgspec.json.Encoder().encode


def predictions_of(served: ServedModel, prediction: FloatArray) -> list[Any]:
    """What MLflow's pyfunc gives for each row.

    It calls the model's `predict`, which for a classifier of the scikit-learn API gives labels, or the function that
    the model names.

    Args:
        served: The model.
        prediction: float64[B], or float64[B, K] for K > 1 outputs.
    """
    if served.labels is None:
        return prediction.tolist()
    if served.artifact.predict_fn == "predict_proba":
        return probabilities(prediction).tolist()
    labels = served.labels
    if len(prediction) == 1:
        return [labels[class_indices(prediction, labels)[0]]]
    return np.array(labels, dtype=object)[class_indices(prediction, labels)].tolist()


def all_finite(prediction: FloatArray) -> bool:
    """Whether all numbers of float64[B] or float64[B, K] are finite."""
    if prediction.size == 1:  # in a tenth of the time
        return math.isfinite(prediction.item())
    return bool(np.isfinite(prediction).all())


def answer_body(predictions: list[Any], *, finite: bool) -> bytes:
    """Body of the answer, `{"predictions": [...]}`.

    Args:
        predictions: What is given for each row.
        finite: Whether all numbers are; MLflow writes NaN and Infinity as Python does, which is not JSON.
    """
    if not finite:
        return b'{"predictions": ' + json.dumps(predictions).encode() + b"}"
    width = len(predictions[0]) if isinstance(predictions[0], list) else 1
    size = max(1, PIECE_VALUES // width)
    if len(predictions) <= size:
        return b'{"predictions": ' + _ENCODE(predictions) + b"}"
    return b'{"predictions": [' + b",".join(_pieces(predictions, size)) + b"]}"


def _pieces(predictions: list[Any], size: int) -> Iterator[bytes]:
    yield_gil = GilYield()
    for start in range(0, len(predictions), size):
        yield _ENCODE(predictions[start : start + size])[1:-1]
        yield_gil()
