"""Probabilities and labels of classes, made from predictions as LightGBM's own classifier makes them.

See `LGBMClassifier.predict_proba` and `predict` in python-package/lightgbm/sklearn.py. All numbers are float64, and
their bits are LightGBM's.
"""

import numpy as np
from numpy.typing import NDArray

from app.codecs.rules import FloatArray
from app.feature import Category

Labels = tuple[Category, ...]
"""Label of each class, in the order of the probabilities."""


def probabilities(prediction: FloatArray) -> FloatArray:
    """Probability of each class, float64[B, C].

    Args:
        prediction: float64[B], probability of the second of two classes; or float64[B, C], which is the result.
    """
    return prediction if prediction.ndim == 2 else np.column_stack((1.0 - prediction, prediction))


def class_indices(prediction: FloatArray, labels: Labels) -> NDArray[np.intp]:
    """Index of the most probable class of each row, the first of equally probable ones.

    A classifier that was trained on fewer classes than its booster has outputs has labels for the first ones only, and
    only these are compared. LightGBM fails where another one is the most probable.

    Args:
        prediction: float64[B] or float64[B, C], finite.
        labels: At most C labels.
    """
    if prediction.ndim == 1 and len(labels) == 2:  # fifty times as fast
        return (prediction > 1.0 - prediction).astype(np.intp)
    return probabilities(prediction)[:, : len(labels)].argmax(axis=1)


def probabilities_of_one(prediction: float | list[float]) -> list[float]:
    """`probabilities` of one row, without the overhead of NumPy."""
    return prediction if isinstance(prediction, list) else [1.0 - prediction, prediction]


def label_of_one(prediction: float | list[float], labels: Labels) -> Category:
    """Label of the most probable class of one row: see `class_indices`."""
    shares = probabilities_of_one(prediction)[: len(labels)]
    return labels[shares.index(max(shares))]


def as_numbers(labels: Labels) -> FloatArray | None:
    """Labels as float64[C], booleans as 0 and 1; None if some are text, or numbers that float64 does not hold."""
    if any(isinstance(label, str) or float(label) != label for label in labels):
        return None
    return np.array(labels, np.float64)
