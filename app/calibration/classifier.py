"""Reliability of a classifier, and thresholds of a binary one, from rows that it was not fitted on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from app.calibration.errors import CalibrationRefused
from app.calibration.parts import random_parts
from app.codecs.rules import FloatArray
from app.models.predictions.reliability import Bin, Event, Goal, Reliability, Threshold

BINS = 10
LEAST_OF_A_CLASS = 10
"""Fewest rows of each class in each half of the rows of a binary classifier."""

LEAST_ROWS = 40
"""Fewest rows of a classifier of several classes."""


def describe_binary(
    prediction: FloatArray, actual: FloatArray, precisions: Sequence[float] = (), recalls: Sequence[float] = ()
) -> Reliability:
    """Describe a binary classifier. Thresholds are chosen on a random half of the rows, and measured on the other half.

    Bins and errors are of all rows: nothing is chosen by them.

    Args:
        prediction: float64[N], probability of the second class.
        actual: float64[N], 0 or 1.
        precisions: Precisions to reach.
        recalls: Recalls to reach.

    Raises:
        CalibrationRefused: An actual value is neither 0 nor 1, a class has too few rows, or a precision is not reached.
    """
    if not np.isin(actual, (0.0, 1.0)).all():
        raise CalibrationRefused("the target of a binary model must be 0 or 1, or one of the model's labels")
    choosing, measuring = random_parts(len(actual), 2)
    fewest = min(int((actual[half] == kind).sum()) for half in (choosing, measuring) for kind in (0, 1))
    if fewest < LEAST_OF_A_CLASS:
        raise CalibrationRefused(
            f"a random half of the rows has {fewest} of a class, and at least {LEAST_OF_A_CLASS} are needed"
        )
    curve = _Curve(prediction[choosing], actual[choosing])
    chosen: list[tuple[Goal, float | None, float]] = [
        ("f1", None, curve.best(curve.f1)),
        ("balanced_accuracy", None, curve.best(curve.balanced_accuracy)),
        *(("precision", asked, curve.least_of_precision(asked)) for asked in precisions),
        *(("recall", asked, curve.greatest_of_recall(asked)) for asked in recalls),
    ]
    return _described(
        "second_class",
        prediction,
        actual,
        log_loss=_log_loss(np.where(actual == 1, prediction, 1 - prediction)),
        brier=float(np.mean((prediction - actual) ** 2)),
        threshold_rows=len(measuring),
        thresholds=tuple(
            _measured(goal, asked, threshold, prediction[measuring], actual[measuring])
            for goal, asked, threshold in chosen
        ),
    )


def describe_several(prediction: FloatArray, actual: FloatArray) -> Reliability:
    """Describe a classifier of several classes, which has no thresholds.

    Args:
        prediction: float64[N, C], probability of each class.
        actual: float64[N], the number of the class, from 0 on.

    Raises:
        CalibrationRefused: An actual value is none of these numbers, or the rows are too few.
    """
    count, classes = prediction.shape
    if not np.isin(actual, np.arange(classes)).all():
        raise CalibrationRefused(
            f"the target of this model must be a whole number from 0 to {classes - 1}, or one of the model's labels"
        )
    if count < LEAST_ROWS:
        raise CalibrationRefused(f"{count} rows are too few: at least {LEAST_ROWS} are needed")
    of_class = prediction[np.arange(count), actual.astype(np.intp)]
    squares = (prediction**2).sum(axis=1) - of_class**2 + (1 - of_class) ** 2
    return _described(
        "most_probable_class",
        prediction.max(axis=1),
        (prediction.argmax(axis=1) == actual).astype(np.float64),
        log_loss=_log_loss(of_class),
        brier=float(squares.mean()),
    )


def _described(event: Event, prediction: FloatArray, actual: FloatArray, **figures: Any) -> Reliability:
    """Figures with bins of the probabilities of an event, float64[N], and whether it is true, 0 or 1 in float64[N]."""
    bins = _bins(prediction, actual)
    return Reliability(
        event=event,
        rows=len(actual),
        actual=float(actual.mean()),
        calibration_error=sum(part.rows * abs(part.predicted - part.actual) for part in bins) / len(actual),
        bins=bins,
        **figures,
    )


def _log_loss(of_class: FloatArray) -> float:
    """Mean log loss, for float64[N] probabilities of the rows' classes; that of 0 is finite, as in scikit-learn."""
    return float(-np.log(np.maximum(of_class, np.finfo(np.float64).eps)).mean())


class _Curve:
    """What each threshold gives on the rows that thresholds are chosen on; thresholds descend."""

    def __init__(self, prediction: FloatArray, actual: FloatArray) -> None:
        wrong, right, thresholds = roc_curve(actual, prediction, drop_intermediate=False)
        self.thresholds: FloatArray = thresholds[1:]  # the first one is above all predictions
        self.recall: FloatArray = right[1:]
        true, false = np.rint(right[1:] * (actual == 1).sum()), np.rint(wrong[1:] * (actual == 0).sum())
        self.precision: FloatArray = true / (true + false)
        self.f1: FloatArray = 2 * true / (true + false + (actual == 1).sum())
        self.balanced_accuracy: FloatArray = (right[1:] + 1 - wrong[1:]) / 2

    def best(self, figure: FloatArray) -> float:
        return float(self.thresholds[int(np.argmax(figure))])

    def least_of_precision(self, asked: float) -> float:
        """The least threshold of at least this precision, which has the largest recall of them."""
        reached = np.flatnonzero(self.precision >= asked)
        if not len(reached):
            most = float(self.precision.max())
            raise CalibrationRefused(f"no threshold reaches the precision {asked}: the largest is {most:.4f}")
        return float(self.thresholds[reached[-1]])

    def greatest_of_recall(self, asked: float) -> float:
        """The greatest threshold of at least this recall, which counts the fewest rows as of the second class."""
        return float(self.thresholds[int(np.argmax(self.recall >= asked))])


def _measured(
    goal: Goal, asked: float | None, threshold: float, prediction: FloatArray, actual: FloatArray
) -> Threshold:
    counted: NDArray[np.bool_] = prediction >= threshold
    positive = actual == 1
    true, count, all_positive = int((counted & positive).sum()), int(counted.sum()), int(positive.sum())
    recall = true / all_positive
    specificity = 1 - (count - true) / (len(actual) - all_positive)
    return Threshold(
        goal=goal,
        asked=asked,
        threshold=threshold,
        precision=true / count if count else 0.0,
        recall=recall,
        f1=2 * true / (count + all_positive),
        balanced_accuracy=(recall + specificity) / 2,
        positive=count / len(actual),
    )


def _bins(prediction: FloatArray, actual: FloatArray) -> tuple[Bin, ...]:
    places = np.minimum((prediction * BINS).astype(np.intp), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    predicted = np.bincount(places, prediction, minlength=BINS) / np.maximum(counts, 1)
    shares = np.bincount(places, actual, minlength=BINS) / np.maximum(counts, 1)
    return tuple(
        Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            rows=int(counts[place]),
            predicted=float(predicted[place]),
            actual=float(shares[place]),
        )
        for place in range(BINS)
    )
