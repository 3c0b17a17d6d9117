"""A loaded object converted to a booster that predicts the same, and the proof that it does."""

import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from app.codecs.classes import probabilities
from app.feature import Category, Feature, Kind
from app.models.category_columns import Column, category_columns
from app.models.convert.comparison import BoosterOutputs, Difference, agreement
from app.models.convert.edges import edge_rows
from app.models.convert.fold import Folded, fold
from app.models.convert.refused import ConversionRefused
from app.models.convert.sample import DTYPES, Sample
from app.models.convert.steps_output import run_steps
from app.models.convert.wrapped import Wrapped
from app.models.frame import engine_rows
from app.models.refusal import ModelRefused
from app.models.signature import KINDS as COLUMN_KINDS
from kernels.forest.errors import ForestError
from kernels.forest.layout import read_forest

KINDS: dict[str, Kind] = {"boolean": "boolean", "long": "integer", "integer": "integer"}
PROBABILITIES = "predict_proba"


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """A booster that takes raw columns, and what is known of it.

    Attributes:
        text: LightGBM's native text.
        labels: Class labels, for a classifier.
        columns: Indices of the sample's columns that it takes.
        categories: Categories of those that the conversion made categories.
        agreed: What was compared, and on how many rows: sentences.
        notes: What is different for values that the object refuses: sentences.
    """

    text: str
    labels: tuple[Category, ...] | None
    columns: tuple[int, ...]
    categories: dict[int, tuple[Category, ...]]
    agreed: tuple[str, ...]
    notes: tuple[str, ...]


def convert(wrapped: Wrapped, pyfunc: Any, sample: Sample, *, unseen_as_missing: bool = False) -> Conversion:
    """Convert a model, and compare its predictions with those of the original.

    Args:
        wrapped: The LightGBM model in the object.
        pyfunc: MLflow's `PyFuncModel` of the object, where there is one.
        sample: Rows to compare with.
        unseen_as_missing: See `fold`.

    Raises:
        ConversionRefused: It cannot be converted, or predicts something else.
    """
    text = wrapped.booster.model_to_string()
    everything = tuple(range(sample.rows.shape[1]))
    folded = Folded(text, everything, _own_categories(text, sample), ())
    if wrapped.steps:
        if wrapped.booster.pandas_categorical:
            raise ConversionRefused("the booster takes pandas categories that the pipeline's steps put out")
        folded = fold(text, wrapped.steps, sample.rows, as_array=sample.as_array, unseen_as_missing=unseen_as_missing)
    booster = _Booster(folded, sample)
    outputs = booster.outputs(sample.rows, wrapped.labels)
    answers = _answers(wrapped, pyfunc, sample)
    name = agreement(answers, outputs)
    if isinstance(name, Difference):
        raise ConversionRefused(f"the converted model does not predict what the original does: {name.text}")
    labels = wrapped.labels
    if labels is None and name == "class numbers":
        labels = tuple(range(2 if outputs.predicted.ndim == 1 else outputs.predicted.shape[1]))
    on = f"equal to the last bit on {len(sample.rows)} rows ({sample.source})"
    agreed = [f"the model's answers are the booster's {name}: {on}"]
    if wrapped.labels is not None:
        _check_probabilities(wrapped, sample.given, outputs)
        agreed.append(f"{PROBABILITIES} is {on}")
    if wrapped.held and (n := _check_answers(wrapped, pyfunc, booster, sample, name)):
        agreed.append(f"the model's answers are equal to the last bit on {n} rows made at the trees' thresholds")
    if wrapped.steps and (n := _check_edges(wrapped, booster, sample)):
        agreed.append(f"the pipeline's raw scores are equal to the last bit on {n} rows made at the trees' thresholds")
    return Conversion(
        text=folded.text,
        labels=labels,
        columns=folded.columns,
        categories=folded.categories,
        agreed=tuple(agreed),
        notes=folded.notes,
    )


class _Booster:
    """The converted booster, asked with raw columns."""

    def __init__(self, folded: Folded, sample: Sample) -> None:
        import lightgbm as lgb

        self.folded = folded
        self._booster = lgb.Booster(model_str=folded.text, params={"verbosity": -1})
        names = list(sample.rows.columns)
        for column in folded.columns:
            if sample.types[column] not in DTYPES and column not in folded.categories:
                raise ConversionRefused(
                    f"column {names[column]!r} has type {sample.types[column]}, which trees do not take"
                )
        self._features = tuple(
            Feature(
                name=names[column],
                kind="category" if column in folded.categories else KINDS.get(sample.types[column], "number"),
                categories=folded.categories.get(column),
                single=sample.types[column] == "float",
            )
            for column in folded.columns
        )

    def outputs(self, rows: pd.DataFrame, labels: tuple[Category, ...] | None) -> BoosterOutputs:
        """What it gives for rows of the raw columns."""
        from lightgbm.basic import LightGBMError

        try:
            given = engine_rows(rows, self._features)
        except (ValueError, TypeError) as error:
            raise ConversionRefused(f"the rows are not numbers: {error}") from error
        try:
            # LightGBM would map the columns of a frame by its own categories, and takes the codes of an array.
            return BoosterOutputs(
                predicted=np.asarray(self._booster.predict(given)),
                raw=np.asarray(self._booster.predict(given, raw_score=True)),
                labels=labels,
            )
        except LightGBMError as error:
            raise ConversionRefused(f"the booster does not take the model's rows: {error}") from error


def _own_categories(text: str, sample: Sample) -> dict[int, tuple[Category, ...]]:
    """Categories of the columns that the booster itself takes as pandas categories."""
    columns = tuple(
        Column(name=str(name), type=kind, kind=COLUMN_KINDS.get(kind, "number"))
        for name, kind in zip(sample.rows.columns, sample.types, strict=True)
    )
    try:
        forest = read_forest(text)
        return category_columns(columns, forest) if forest.pandas_categories else {}
    except (ForestError, ModelRefused) as error:
        raise ConversionRefused(str(error)) from error


def _answers(wrapped: Wrapped, pyfunc: Any, sample: Sample) -> Any:
    """What the original answers to the sample: through MLflow, as callers get it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (wrapped.outer if pyfunc is None else pyfunc).predict(sample.given)
    except Exception as error:
        kind = type(error).__name__
        raise ConversionRefused(f"the original fails on the rows of {sample.source}: {kind}: {error}") from error


def _check_probabilities(wrapped: Wrapped, given: Any, outputs: BoosterOutputs) -> None:
    """Raise ConversionRefused unless a classifier's probabilities are the booster's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given_by_it = np.asarray(wrapped.outer.predict_proba(given))
    expected = probabilities(outputs.predicted)
    if not np.array_equal(given_by_it, expected, equal_nan=True):
        largest = float(np.abs(given_by_it - expected).max()) if given_by_it.shape == expected.shape else np.inf
        raise ConversionRefused(
            f"the converted model's probabilities differ from {PROBABILITIES} by up to {largest:.6g}"
        )


def _check_answers(wrapped: Wrapped, pyfunc: Any, booster: _Booster, sample: Sample, name: str) -> int:
    """Compare the original's answers with the booster's on rows made for it.

    An object around a model may change some answers only: below a limit, say, or those to rows with missing values.

    Args:
        wrapped: The LightGBM model in the object.
        pyfunc: MLflow's `PyFuncModel` of the object, where there is one.
        booster: The converted booster.
        sample: Rows that the answers were equal on.
        name: The booster's output that the answers were.

    Returns:
        Number of rows compared; 0 if the original refuses all of such rows.

    Raises:
        ConversionRefused: They differ.
    """
    answered = _answered_edges(
        booster, sample, lambda rows: _answers(wrapped, pyfunc, msgspec.structs.replace(sample, rows=rows))
    )
    if answered is None:
        return 0
    rows, answers, missing = answered
    found = agreement(answers, booster.outputs(rows, wrapped.labels))
    if found != name:
        told = found.text if isinstance(found, Difference) else f"they are the booster's {found} there"
        raise ConversionRefused(
            f"the model's answers are the booster's {name} on the rows given, but not on rows made at the trees' "
            f"thresholds{', some with missing values' if missing else ''}: {told}"
        )
    return len(rows)


def _check_edges(wrapped: Wrapped, booster: _Booster, sample: Sample) -> int:
    """Compare the pipeline with the booster on rows made for it.

    Returns:
        Number of rows compared; 0 if the pipeline refuses all of such rows.

    Raises:
        ConversionRefused: They differ.
    """

    def raw_scores(rows: pd.DataFrame) -> Any:
        given = run_steps(wrapped.steps, rows.to_numpy() if sample.as_array else rows)
        return np.asarray(wrapped.model.predict(given, raw_score=True))

    if (answered := _answered_edges(booster, sample, raw_scores)) is None:
        return 0
    rows, answers, _ = answered
    raw = booster.outputs(rows, None).raw
    if answers.shape != raw.shape or not np.array_equal(answers, raw, equal_nan=True):
        raise ConversionRefused("the converted model differs from the pipeline on rows made at the trees' thresholds")
    return len(rows)


def _answered_edges(
    booster: _Booster, sample: Sample, answer: Callable[[pd.DataFrame], Any]
) -> tuple[pd.DataFrame, Any, bool] | None:
    """Rows made at the trees' thresholds, the original's answers to them, and whether values are missing in them.

    An original that refuses missing values is asked without; None if it refuses all such rows.
    """
    folded = booster.folded
    for missing in (True, False):
        rows = edge_rows(folded.text, folded.columns, folded.categories, sample.rows, missing=missing)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return rows, answer(rows), missing
        except Exception:  # of any library
            continue
    return None
