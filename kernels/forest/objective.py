"""From raw scores to predictions: what LightGBM's objectives do to the sum of the leaf values.

The objective is the first word of the line that LightGBM writes, its parameters follow. The formulas are those of
`ConvertOutput` in src/objective/*.hpp of LightGBM. They are compiled, for the last bit of a prediction is that of the C
library's `exp`, which LightGBM calls and so does a compiled function; NumPy has one of its own for some processors.
"""

import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.errors import ForestError, UnsupportedForestError

Conversion = Callable[[NDArray[np.float64]], None]
"""Replaces the scores, C-contiguous float64[B, K], by the predictions."""

SQUARED = ("regression", "regression_l1", "quantile", "fair", "mape")
"""Objectives that undo `reg_sqrt`; huber has no square root, whatever it was asked for."""


def conversion(objective: str) -> Conversion:
    """The conversion of an objective.

    Raises:
        ForestError: Its parameters are missing or out of range.
        UnsupportedForestError: It is not a known one.
    """
    name, *tokens = objective.split() or [""]
    if name in SQUARED and "sqrt" in tokens:
        return _signed_square
    if name in ("", "huber", "lambdarank", "rank_xendcg", *SQUARED):
        return identity
    if name in ("poisson", "gamma", "tweedie"):
        return _exponential
    if name in ("multiclass", "multiclassova") and not re.search(r" num_class:[0-9]+", objective):
        raise ForestError(f"the booster's objective {objective[:80]!r} does not say num_class")
    if name in ("binary", "multiclassova"):
        return partial(_sigmoid, _steepness(objective))
    if name == "cross_entropy":
        return partial(_sigmoid, 1.0)
    if name == "cross_entropy_lambda":
        return _log_one_plus_exponential
    if name == "multiclass":
        return _softmax
    raise UnsupportedForestError(f"the booster has an objective that is not known here: {name[:80]!r}")


def _steepness(objective: str) -> float:
    told = re.search(r" sigmoid:(\S+)", objective)
    try:
        steepness = float(told[1]) if told else -1.0
    except ValueError:
        steepness = -1.0
    if not (np.isfinite(steepness) and steepness > 0):
        raise ForestError(f"the booster's objective {objective[:80]!r} has no positive sigmoid parameter")
    return steepness


def identity(scores: NDArray[np.float64]) -> None:
    """Scores that are predictions."""


@njit(nogil=True, cache=True, error_model="numpy")
def _signed_square(scores):
    for row in range(scores.shape[0]):
        for output in range(scores.shape[1]):
            scores[row, output] *= abs(scores[row, output])


@njit(nogil=True, cache=True, error_model="numpy")
def _exponential(scores):
    for row in range(scores.shape[0]):
        for output in range(scores.shape[1]):
            scores[row, output] = math.exp(scores[row, output])


@njit(nogil=True, cache=True, error_model="numpy")
def _sigmoid(steepness, scores):
    for row in range(scores.shape[0]):
        for output in range(scores.shape[1]):
            scores[row, output] = 1.0 / (1.0 + math.exp(-steepness * scores[row, output]))


@njit(nogil=True, cache=True, error_model="numpy")
def _log_one_plus_exponential(scores):
    for row in range(scores.shape[0]):
        for output in range(scores.shape[1]):
            scores[row, output] = math.log1p(math.exp(scores[row, output]))


@njit(nogil=True, cache=True, error_model="numpy")
def _softmax(scores):
    """`Common::Softmax` of include/LightGBM/utils/common.h: the sum is taken in the order of the classes."""
    for row in range(scores.shape[0]):
        own = scores[row]
        largest = own[0]
        for output in range(1, own.size):
            largest = max(own[output], largest)
        total = 0.0
        for output in range(own.size):
            own[output] = math.exp(own[output] - largest)
            total += own[output]
        for output in range(own.size):
            own[output] /= total
