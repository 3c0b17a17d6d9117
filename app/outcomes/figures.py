"""Figures of error: what predictions were worth, judged by the actual values. NumPy is enough for them."""

import numpy as np
from numpy.typing import NDArray

from app.codecs.rules import FloatArray

BINS = 10
"""Bins of equal width of the calibration error."""

LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
"""Floor of a probability in the log loss, which is infinite for an event that was said to be impossible. That of
scikit-learn's `log_loss`."""


def rmse(errors: FloatArray) -> float:
    """Root of the mean squared error, in the target's unit.

    Args:
        errors: float64[N], prediction minus actual value; N > 0.
    """
    return float(np.sqrt(np.mean(np.square(errors))))


def r2(actual: FloatArray, errors: FloatArray) -> float | None:
    """Coefficient of determination, 1 - SS_res / SS_tot; None where all actual values are the same.

    Args:
        actual: float64[N].
        errors: float64[N], prediction minus actual value.
    """
    total = float(np.square(actual - actual.mean()).sum())
    return 1.0 - float(np.square(errors).sum()) / total if total > 0 else None


def coverage(actual: FloatArray, lower: FloatArray, upper: FloatArray) -> float:
    """Share of N > 0 actual values that lie inside their interval, its bounds included."""
    return float(np.mean((actual >= lower) & (actual <= upper)))


def log_loss(actual: FloatArray, probability: FloatArray) -> float:
    """Mean of -log of the probability that was given to what happened, with the natural logarithm.

    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equations 4.90 and 4.108; as scikit-learn computes it,
    whose probabilities are clipped to [eps, 1 - eps].

    Args:
        actual: float64[N]: of two classes, the share of the second one, which is 0 or 1 for a label; of K classes, the
            index of the one that happened.
        probability: float64[N], of the second class; or float64[N, K].
    """
    clipped = np.clip(probability, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    if probability.ndim == 2:
        return float(-np.log(clipped[np.arange(len(actual)), actual.astype(np.intp)]).mean())
    other = np.clip(1.0 - probability, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    return float(-np.mean(actual * np.log(clipped) + (1.0 - actual) * np.log(other)))


def auc(positive: NDArray[np.bool_], score: FloatArray) -> float | None:
    """Area under the ROC curve; None unless there are rows of both kinds.

    The share of pairs of a positive and a negative row in which the positive one has the greater score, where equal
    scores count half: the Mann-Whitney statistic by mid-ranks (T. Fawcett, An introduction to ROC analysis, Pattern
    Recognition Letters 27, 2006, section 7).

    Args:
        positive: bool[N].
        score: float64[N].
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    ranks = float(middle[place.ravel()][positive].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def macro_auc(actual: FloatArray, probabilities: FloatArray) -> float | None:
    """Mean over the classes of the area under the curve of each against all others; None unless all classes appear.

    scikit-learn's `roc_auc_score` with `multi_class="ovr"`.

    Args:
        actual: float64[N], index of the class that happened.
        probabilities: float64[N, K].
    """
    areas = [auc(actual == index, probabilities[:, index]) for index in range(probabilities.shape[1])]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if areas and len(known) == len(areas) else None


def calibration_error(actual: FloatArray, probability: FloatArray) -> float:
    """Expected calibration error: the mean distance of probability and frequency, over ten bins of equal width.

    Of two classes, the probability of the second one against its frequency (M. P. Naeini, G. F. Cooper and
    M. Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015). Of more classes, the
    probability of the most probable one against how often it happened (C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger,
    On Calibration of Modern Neural Networks, ICML 2017, equation 3). Bins contain their upper edge, as there.

    Args:
        actual: float64[N], as of `log_loss`; N > 0.
        probability: float64[N] or float64[N, K], as of `log_loss`.
    """
    if probability.ndim == 2:
        best = probability.argmax(axis=1)
        probability, actual = probability[np.arange(len(best)), best], (best == actual).astype(np.float64)
    edges = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    places = np.searchsorted(edges, probability)
    distances = np.bincount(places, actual - probability, BINS)
    return float(np.abs(distances).sum() / len(actual))
