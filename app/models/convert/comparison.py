"""Which of a booster's outputs a model's predictions are, to the last bit."""

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.codecs.classes import probabilities
from app.feature import Category


class BoosterOutputs(msgspec.Struct, frozen=True):
    """What a booster gives for B rows.

    Attributes:
        predicted: float64[B], or float64[B, K] for K classes.
        raw: The same before the objective's transformation.
        labels: Labels of the classes, for a classifier.
    """

    predicted: NDArray[np.float64]
    raw: NDArray[np.float64]
    labels: tuple[Category, ...] | None = None

    @property
    def named(self) -> dict[str, NDArray[Any]]:
        """Arrays that a model may answer with, by what they are."""
        p = self.predicted
        found: dict[str, NDArray[Any]] = {}
        if self.labels is not None:
            found |= {"class labels": np.array(self.labels, dtype=object)[self._classes]}
        found |= {"predictions": p, "raw scores": self.raw}
        if p.ndim == 1:
            found |= {"probabilities of both classes": probabilities(p)}
            found |= {"probabilities of the first class": 1.0 - p}
        if p.ndim == 2 or self.labels is not None or not ((p < 0) | (p > 1)).any():
            found |= {"class numbers": self._classes}
        return found

    @property
    def _classes(self) -> NDArray[np.intp]:
        return np.argmax(probabilities(self.predicted), axis=1)


class Difference(msgspec.Struct, frozen=True):
    """How far a model's predictions are from the nearest output: a sentence."""

    text: str


def agreement(answers: Any, outputs: BoosterOutputs) -> str | Difference:
    """Name of the output that the answers are, or how far they are from the nearest one."""
    given = _array(answers)
    if given is None:
        return Difference(f"the model answers with {type(answers).__name__}, which is neither numbers nor labels")
    named = outputs.named
    for name, output in named.items():
        if _same(given, output):
            return name
    shapes = {name: output for name, output in named.items() if output.shape == given.shape}
    if not shapes:
        return Difference(f"the model answers with shape {given.shape}, the booster with {outputs.predicted.shape}")
    if given.dtype == object or (
        "class labels" in shapes and len(set(given.ravel().tolist()) - set(outputs.labels or ())) == 0
    ):
        output = shapes.get("class labels", next(iter(shapes.values())))
        wrong = sum(left != right for left, right in zip(given.ravel().tolist(), output.ravel().tolist(), strict=True))
        return Difference(f"{wrong} of {given.size} labels differ")
    numbers = {name: output for name, output in shapes.items() if output.dtype != object and name != "class numbers"}
    name, largest = min(
        ((name, _largest(given.astype(np.float64), output)) for name, output in numbers.items()),
        key=lambda item: item[1],
    )
    return Difference(f"the largest difference from the booster's {name} is {largest:.6g}")


def _array(answers: Any) -> NDArray[Any] | None:
    """Answers as numbers or labels: one for each row, or one for each row and class."""
    if isinstance(answers, (pd.DataFrame, pd.Series)):
        answers = answers.to_numpy()
    try:
        given = np.asarray(answers)
    except ValueError:
        return None
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim not in (1, 2):
        return None
    return given if given.dtype.kind in "biuf" else given.astype(object)


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    if left.shape != right.shape or (left.dtype.kind == "f") != (right.dtype.kind == "f"):
        numeric = left.dtype.kind in "biuf" and right.dtype == object
        return left.shape == right.shape and numeric and left.tolist() == right.tolist()
    if left.dtype.kind == "f":
        return np.array_equal(left, right, equal_nan=True)
    return left.tolist() == right.tolist()


def _largest(left: NDArray[np.float64], right: NDArray[Any]) -> float:
    with np.errstate(invalid="ignore"):
        difference = np.abs(left - right)
    return float(
        np.max(np.where(np.isnan(left) & np.isnan(right) | (left == right), 0.0, np.nan_to_num(difference, nan=np.inf)))
    )
