"""From raw scores to predictions: what LightGBM's objectives do to the sum of the leaf values.

The objective is the first word of the line that LightGBM writes, its parameters follow. The formulas are those of
`ConvertOutput` in src/objective/*.hpp of LightGBM.
"""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernels.model_text import ForestError, UnsupportedForestError

Conversion = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""float64[B, K] to float64[B, K]."""

SQUARED = ("regression", "regression_l1", "quantile", "fair", "mape")
"""Objectives that undo `reg_sqrt`; huber has no square root, whatever it was asked for."""


def conversion(objective: str) -> Conversion:
    """The conversion of an objective.

    Raises:
        ForestError: Its parameters are missing or out of range.
        UnsupportedForestError: It is none that is known here.
    """
    name, *tokens = objective.split() or [""]
    if name in SQUARED and "sqrt" in tokens:
        return _signed_square
    if name in ("", "huber", "lambdarank", "rank_xendcg", *SQUARED):
        return _identity
    if name in ("poisson", "gamma", "tweedie"):
        return _exponential
    if name in ("multiclass", "multiclassova") and not re.search(r" num_class:[0-9]+", objective):
        raise ForestError(f"the booster's objective {objective[:80]!r} does not say num_class")
    if name in ("binary", "multiclassova"):
        return _sigmoid(_steepness(objective))
    if name == "cross_entropy":
        return _sigmoid(1.0)
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


def _identity(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    return raw


def _signed_square(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.abs(raw) * raw


def _exponential(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(raw)


def _sigmoid(steepness: float) -> Conversion:
    def convert(raw: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(over="ignore", under="ignore"):
            return 1.0 / (1.0 + np.exp(-steepness * raw))

    return convert


def _log_one_plus_exponential(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        return np.log1p(np.exp(raw))


def _softmax(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(under="ignore", invalid="ignore"):
        weights = np.exp(raw - raw.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)
