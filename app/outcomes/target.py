"""What the actual values for a model are, and how they are compared with its predictions."""

import math
from contextlib import suppress
from typing import Literal

import msgspec

from app.codecs.classes import Labels
from app.feature import Category
from app.models.predictions.output import meaning
from app.models.served import ServedModel

Kind = Literal["regression", "binary", "multiclass", "none"]
"""Kind of figures: none for a ranking, and for raw scores of an objective of the user's own."""

KINDS: dict[str, Kind] = {"value": "regression", "probability": "binary", "probabilities": "multiclass"}
"""Kind by the meaning of the predictions."""


class Target(msgspec.Struct, frozen=True):
    """What a model predicts.

    Attributes:
        kind: Kind of figures.
        classes: Index of each label by its text, of a classifier whose labels are known.
        outputs: K, numbers of each prediction.
        shares: Whether the actual value may be any share from 0 to 1, as for LightGBM's cross_entropy.
    """

    kind: Kind
    classes: dict[str, int] | None = None
    outputs: int = 1
    shares: bool = False

    def number(self, actual: Category) -> float | None:
        """An actual value as a number: of a class its index; None for a value that the model cannot predict.

        A label is known by its text, so that 1, 1.0 and "1" are the same one: CSV does not tell them apart.
        """
        if self.classes is not None:
            index = self.classes.get(_text(actual))
            return None if index is None else float(index)
        if isinstance(actual, str) or not math.isfinite(actual):
            return None
        number = float(actual)
        match self.kind:
            case "regression":
                return None if isinstance(actual, bool) else number
            case "binary":
                return number if number in (0.0, 1.0) or (self.shares and 0 <= number <= 1) else None
            case "multiclass":
                return number if number.is_integer() and 0 <= number < self.outputs else None
            case "none":
                return number

    @property
    def rule(self) -> str:
        """What an actual value must be, as the end of a sentence about it."""
        if self.classes is not None:
            return "must be one of the model's labels"
        match self.kind:
            case "binary":
                return "must be a number from 0 to 1" if self.shares else "must be 0 or 1, the index of a class"
            case "multiclass":
                return f"must be a whole number from 0 to {self.outputs - 1}, the index of a class"
            case _:
                return "must be a finite number"


def target_of(served: ServedModel) -> Target:
    """What a model in service predicts."""
    forest = served.artifact.forest
    name = forest.objective.partition(" ")[0]
    kind = KINDS.get(meaning(forest.objective), "none")
    classes = None if served.labels is None or kind == "none" else _classes(served.labels)
    return Target(kind, classes, forest.n_outputs, name == "cross_entropy")


def _classes(labels: Labels) -> dict[str, int]:
    """Index of each label by its text; of a text that is a number, also by how CSV's reader writes that number."""
    classes = {_text(label): index for index, label in enumerate(labels)}
    for index, label in enumerate(labels):
        if isinstance(label, str):
            with suppress(ValueError):
                classes.setdefault(_text(float(label)), index)
    return classes


def _text(label: Category) -> str:
    """A label as text: 1 for the number 1.0, true for the value and for its text in Python."""
    if isinstance(label, bool) or label in ("True", "False"):
        return str(label).lower()
    if isinstance(label, str):
        return label
    return str(int(label)) if math.isfinite(label) and float(label).is_integer() else repr(label)
