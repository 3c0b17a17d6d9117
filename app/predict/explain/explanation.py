"""Explanations in answers: what each feature adds to a raw score, and their columns in tables."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import repeat
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from app.codecs.categories import values_of
from app.codecs.result import Columns
from app.codecs.rules import FloatArray
from app.feature import Category, Feature
from app.models.served import ServedModel
from app.predict.query import Asked
from kernels.engine import Evaluation, Explanation, FeatureGroup
from kernels.explainer import Space
from kernels.forest.forest import Forest

Units = Literal["raw score", "prediction"]
"""What contributions add up to: the raw score; and the prediction, where that is the raw score itself."""

Value = str | float | bool | None
"""Value of a feature. In JSON a whole number is a number too, so that JSON Schema needs no type for it."""


class Contribution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a feature adds to a raw score.

    Attributes:
        feature: Name of the feature, or of a group of features that only act together.
        features: Features of the group, if it is one.
        value: Value of the feature, null where it is missing; of a group the value of each feature.
        contribution: Of a model with several outputs, one number for each.
    """

    feature: str
    features: tuple[str, ...] | UnsetType = UNSET
    value: Value | list[Value]
    contribution: float | list[float]


class OtherContributions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the features add that are not listed.

    Attributes:
        features: Number of features and groups.
        contribution: Sum of their contributions.
    """

    features: int
    contribution: float | list[float]


class RowExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Explanation of the prediction for a row.

    Attributes:
        base_value: Mean raw score of the training rows, to which the contributions are added.
        raw_score: Sum of the leaf values, which is the sum of base value and contributions.
        units: What the contributions add up to.
        contributions: Those of greatest size first.
        other: Sum of the others, unless all are listed.
    """

    base_value: float | list[float]
    raw_score: float | list[float]
    units: Units
    contributions: list[Contribution]
    other: OtherContributions | UnsetType = UNSET


class _Named(NamedTuple):
    """A group of features as callers see it.

    Attributes:
        name: Name of the feature, or of the group.
        features: Names of the features of a group of several.
        columns: Columns of the features.
        values: Gives the value of each of these columns as callers know it.
    """

    name: str
    features: tuple[str, ...] | UnsetType
    columns: tuple[int, ...]
    values: tuple[Callable[[float], Value], ...]

    def contribution(self, row: list[float], number: float | list[float]) -> Contribution:
        """The contribution of the group in a row of all columns."""
        values = [value(row[column]) for column, value in zip(self.columns, self.values, strict=True)]
        value = values[0] if self.features is UNSET else values
        return Contribution(feature=self.name, features=self.features, value=value, contribution=number)


def explained_rows(
    served: ServedModel, rows: FloatArray, evaluation: Evaluation, asked: Asked
) -> tuple[Iterator[RowExplanation | UnsetType], Iterator[list[int] | UnsetType]]:
    """Explanation and leaves of each row, unset where they are not asked for.

    Args:
        served: The model.
        rows: float64[B, F], raw features.
        evaluation: Evaluation of these rows.
        asked: What the request asks for.
    """
    explanation, raw, leaves = evaluation.explanation, evaluation.raw_score, evaluation.leaves
    explanations: Iterator[RowExplanation | UnsetType] = repeat(UNSET)
    if explanation is not None and raw is not None and asked.space is not None:
        explanations = _row_explanations(served, asked.space, asked.top, rows, explanation, raw)
    return explanations, repeat(UNSET) if leaves is None else map(np.ndarray.tolist, leaves)


def explained_columns(served: ServedModel, evaluation: Evaluation, asked: Asked) -> tuple[Columns, ...]:
    """Columns of a table: `base_value` and `contribution:NAME`, and `leaf_0` and so on, as far as they are asked for.

    With several outputs they are `base_value_0` and so on, and `contribution_0:NAME` and so on.
    """
    further: list[Columns] = []
    explanation, leaves = evaluation.explanation, evaluation.leaves
    if explanation is not None and asked.space is not None:
        rows, outputs, width = explanation.contributions.shape
        names = [group.name for group in _groups_of(served, asked.space, explanation.groups)]
        numbers = [""] if outputs == 1 else [f"_{output}" for output in range(outputs)]
        bases = np.broadcast_to(explanation.base, (rows, outputs))
        added = explanation.contributions.reshape(rows, outputs * width)
        further.append(_columns([f"base_value{number}" for number in numbers], bases))
        further.append(_columns([f"contribution{number}:{name}" for number in numbers for name in names], added))
    if leaves is not None:
        further.append(_columns([f"leaf_{tree}" for tree in range(leaves.shape[1])], leaves))
    return tuple(further)


def _columns(names: list[str], values: NDArray[Any]) -> Columns:
    return Columns({name: place for place, name in enumerate(names)}, values)


def _row_explanations(
    served: ServedModel, space: Space, top: int | None, rows: FloatArray, explanation: Explanation, raw: FloatArray
) -> Iterator[RowExplanation]:
    """Explanation of each row, whose raw scores are float64[B] or float64[B, K]."""
    groups = _groups_of(served, space, explanation.groups)
    columns: NDArray[Any] = rows if space == "raw" else served.engine.transform(rows)
    contributions, base, shown = explanation.contributions, explanation.base.tolist(), top or len(groups)
    orders = np.argsort(-np.abs(contributions).max(axis=1), axis=1, kind="stable")
    added: NDArray[np.float64] = contributions[:, 0] if len(base) == 1 else contributions.transpose(0, 2, 1)
    base_value = base[0] if len(base) == 1 else base
    units: Units = "prediction" if _is_identity(served) else "raw score"
    for order, row, score, row_added in zip(orders.tolist(), columns, raw.tolist(), added, strict=True):
        values, numbers, rest = row.tolist(), row_added.tolist(), order[shown:]
        yield RowExplanation(
            base_value=base_value,
            raw_score=score,
            units=units,
            contributions=[groups[place].contribution(values, numbers[place]) for place in order[:shown]],
            other=OtherContributions(features=len(rest), contribution=row_added[rest].sum(axis=0).tolist())
            if rest
            else UNSET,
        )


def _is_identity(served: ServedModel) -> bool:
    """Whether the predictions of a model are its raw scores, as far as is known."""
    forest = served.artifact.forest
    return isinstance(forest, Forest) and not forest.converts


def value_reader(feature: Feature) -> Callable[[float], Value]:
    """Gives the value that callers know of a number in the feature's column; None where it is missing."""
    if feature.kind == "category":
        values: dict[float, Category] = {float(code): value for code, value in values_of(feature).items()}
        return values.get
    kind: type[bool] | type[int] | None = {"boolean": bool, "integer": int}.get(feature.kind)
    if kind is None:
        return _number
    return lambda number: None if number != number else kind(number)


def _number(value: float) -> Value:
    return None if value != value else value


def _groups_of(served: ServedModel, space: Space, groups: tuple[FeatureGroup, ...]) -> tuple[_Named, ...]:
    artifact = served.artifact
    if space == "model" and artifact.plan is not None:
        return _named(groups, artifact.plan.outputs, None)
    return _named(groups, served.engine.input_names, artifact.features)


@lru_cache(maxsize=8)
def _named(
    groups: tuple[FeatureGroup, ...], names: tuple[str, ...], features: tuple[Feature, ...] | None
) -> tuple[_Named, ...]:
    """Groups as callers see them.

    Args:
        groups: Of an explanation.
        names: Name of each column in the engine.
        features: Feature of each column, whose names can be others; None for columns that are made by a plan.
    """
    places = {name: place for place, name in enumerate(names)}
    found: list[_Named] = []
    for group in groups:
        columns = tuple(places[name] for name in group.features)
        shown = group.features if features is None else tuple(features[column].name for column in columns)
        readers = (_number,) * len(columns) if features is None else tuple(value_reader(features[c]) for c in columns)
        several = len(columns) > 1
        found.append(_Named(group.name if several else shown[0], shown if several else UNSET, columns, readers))
    return tuple(found)
