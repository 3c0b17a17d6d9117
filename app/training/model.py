"""Trains a model by a recipe: split, fit the plan, boost, calibrate intervals, evaluate, describe, save, register.

The split is the one that papers on tabular learning report on (TabR, TabM): 64 % to fit, 16 % to stop early, 20 % to
test once, all by scikit-learn's `train_test_split`. Intervals are calibrated on the rows that stopped early: all that
was chosen on them is the number of trees.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import lightgbm as lgb
import msgspec
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from numpy.typing import NDArray
from sklearn.model_selection import KFold, train_test_split

from app.models.embedded import Provenance
from app.models.interval import Intervals
from app.models.publish import publish
from app.models.pyfunc import ModelParts, save_model
from app.settings import Settings
from app.training import card
from app.training.card import Card, ErrorMap
from app.training.card_page import write_card
from app.training.dataset import Dataset
from app.training.fitting import FittedPlan, cluster_areas, fit_plan
from app.training.histogram import quantile_histogram
from app.training.interval import Coverage, coverage, fit_difficulty, fit_intervals
from app.training.recipe import Areas, Recipe
from kernels.engine import Engine, Evaluation

FOLDS = 5
UNSEEN_SHARE = 0.2
"""Of the areas, held out whole to measure what the model knows of places that it has never seen."""

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Report = Callable[[str, int, int], None]
"""Told of progress: what is being done, steps done, steps in all."""


def silent(stage: str, done: int, total: int) -> None:
    """A `Report` to nobody."""


class Split(msgspec.Struct, frozen=True):
    """Row indices of the three parts."""

    fit: Rows
    validation: Rows
    test: Rows


class Boosted(msgspec.Struct, frozen=True):
    """A plan and a booster on it.

    Attributes:
        fitted: The plan.
        text: The booster in LightGBM's native text.
        rounds: Its number of trees.
        features: float32[N + A, O], what it was boosted on: the fit rows' own features, then their area copies.
        weights: float64[N + A].
    """

    fitted: FittedPlan
    text: str
    rounds: int
    features: NDArray[np.float32]
    weights: Array

    def parts(self) -> ModelParts:
        """The model, without intervals."""
        return ModelParts(booster=self.text, plan=self.fitted.plan, table=self.fitted.table)

    def test_rmse(self, dataset: Dataset, split: Split) -> float:
        """RMSE on the test rows, by the way that requests go."""
        residual = self.parts().engine().predict(dataset.features[split.test]) - dataset.target[split.test]
        return float(np.sqrt(np.mean(residual**2)))


class TrainedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What training gives.

    Attributes:
        recipe: What it was trained by.
        parts: The model.
        example: A row of raw features by name: the fit rows' medians.
        metrics: Of each part of the split.
        card: What is to be known of it.
        error_map: Test rows and their errors, where the recipe names areas.
    """

    recipe: Recipe
    parts: ModelParts
    example: dict[str, float]
    metrics: dict[str, float]
    card: Card
    error_map: ErrorMap | None

    def save(self, directory: Path) -> None:
        """Write `model/`, as MLflow stores a model, and `card/`.

        Raises:
            FileExistsError: There are files in `model/` already.
        """
        signature = ModelSignature(
            inputs=Schema([ColSpec(DataType.double, name) for name in self.parts.plan.input_names]),
            outputs=Schema([ColSpec(DataType.double, "prediction")]),
        )
        save_model(directory / "model", self.parts, signature, self.example)
        write_card(self.card, directory / "card", self.error_map)

    def provenance(self, name: str) -> Provenance:
        """What the run of a model of this name says of how it came to be."""
        plan, data = self.parts.plan, self.card.data
        return Provenance(
            name=name,
            params={
                **{key: str(value) for key, value in self.recipe.boosting().items()},
                "max_rounds": str(self.recipe.max_rounds),
                "early_stopping_rounds": str(self.recipe.early_stopping_rounds),
                "split_seed": str(self.recipe.seed),
                "plan_steps": str(len(plan.steps) + len(plan.reference_steps)),
                "reference_rows": str(0 if plan.references is None else plan.references.rows),
                "model_features": str(len(plan.outputs)),
            },
            metrics=self.metrics,
            tags={
                "data_source": data.source,
                "data_rows": str(data.rows),
                "data_sha256": data.sha256,
                "lightgbm_version": lgb.__version__,
            },
        )

    def register(self, name: str, settings: Settings | None = None) -> str:
        """Log model and card in an MLflow run, and register the model: alias champion, stage Production.

        Args:
            name: Of the registered model; MODEL_NAME of the service that is to serve it.
            settings: Say which registry; None for those of the environment, which the service reads too.

        Returns:
            The version.

        Raises:
            mlflow.exceptions.MlflowException: The registry refuses or does not answer.
        """
        with tempfile.TemporaryDirectory() as scratch:
            self.save(Path(scratch))
            return publish(
                settings or Settings.from_environ(os.environ),
                Path(scratch) / "model",
                card=Path(scratch) / "card",
                **msgspec.structs.asdict(self.provenance(name)),
            )


def split_rows(count: int, seed: int = 0) -> Split:
    """Split row indices 0 to count-1 into fit, validation and test rows."""
    rest, test = train_test_split(np.arange(count), test_size=0.2, random_state=seed)
    fit, validation = train_test_split(rest, test_size=0.2, random_state=seed + 1)
    return Split(np.asarray(fit), np.asarray(validation), np.asarray(test))


def train(dataset: Dataset, recipe: Recipe, title: str = "Model", report: Report = silent) -> TrainedModel:
    """Fit on the fit rows, stop early and calibrate on the validation rows, evaluate on the test rows.

    Args:
        dataset: All rows.
        recipe: What to fit.
        title: Of the card.
        report: Told of progress.

    Raises:
        PlanError: The recipe's plan is not valid.
        ValueError: There are too few rows for the recipe's levels, or a Gaussian process cannot be fitted.
    """
    split = split_rows(len(dataset.target), recipe.seed)
    boosted = boost(dataset, recipe, split, report)
    residuals, folds = _out_of_fold(boosted, recipe, dataset.target[split.fit], report)
    parts = boosted.parts()
    if recipe.levels:
        own = boosted.features[: len(residuals)]
        difficulty = fit_difficulty(own, np.abs(residuals), boosted.fitted.plan.outputs)
        parts = msgspec.structs.replace(parts, difficulty=difficulty)
        parts = msgspec.structs.replace(parts, intervals=_calibrate(parts, dataset, split, recipe))
    engine = parts.engine()
    answers = {
        name: engine.evaluate(dataset.features[rows])
        for name, rows in (("fit", split.fit), ("validation", split.validation), ("test", split.test))
    }
    metrics = {"trees": float(boosted.rounds)}
    for name, answer in answers.items():
        metrics |= _evaluate(name, answer.prediction, dataset.target[getattr(split, name)])
    unseen = unseen_areas(dataset, recipe, report)
    summary = Card(
        title=title,
        created=datetime.now(UTC),
        data=card.Data(
            source=dataset.source,
            rows=len(dataset.target),
            sha256=dataset.sha256,
            target=dataset.target_name,
            unit=recipe.unit,
        ),
        split=card.SplitSummary(
            seed=recipe.seed,
            fit=len(split.fit),
            validation=len(split.validation),
            test=len(split.test),
            method="Rows at random, by scikit-learn's train_test_split.",
        ),
        metrics=metrics,
        folds=folds,
        unseen_areas=unseen,
        intervals=_coverage(parts.intervals, answers["test"], dataset.target[split.test]),
        importance=card.importance_of(boosted.text),
        histograms=card.Histograms(
            features={
                name: quantile_histogram(dataset.features[split.fit, index]) for index, name in enumerate(dataset.names)
            },
            prediction=quantile_histogram(answers["fit"].prediction),
        ),
        cost=_cost(engine, dataset.features[split.test]),
        outside_distance=engine.outside_distance,
        versions=card.Versions.installed(),
    )
    medians = np.nanmedian(dataset.features[split.fit], axis=0)
    errors = np.abs(answers["test"].prediction - dataset.target[split.test])
    return TrainedModel(
        recipe=recipe,
        parts=parts,
        example=dict(zip(dataset.names, medians.tolist(), strict=True)),
        metrics=metrics,
        card=summary,
        error_map=_error_map(dataset, recipe, split.test, errors),
    )


def boost(
    dataset: Dataset, recipe: Recipe, split: Split, report: Report = silent, fitted: FittedPlan | None = None
) -> Boosted:
    """Fit plan and booster on the fit rows, stopping early on the validation rows.

    Args:
        dataset: All rows.
        recipe: What to fit.
        split: Whose test rows are not touched.
        report: Told of progress.
        fitted: The plan, where it has been fitted on these rows before.
    """
    report("Features", 0, 1)
    X, y = dataset.features[split.fit], dataset.target[split.fit]
    fitted = fitted or fit_plan(recipe, dataset.names, X, y)
    features, weights = fitted.own_features(), np.ones(len(y))
    if recipe.areas is not None and recipe.areas.weight > 0 and fitted.table is not None:
        copies = fitted.area_features(cluster_areas(recipe.areas, dataset.names, X, recipe.seed))
        features = np.concatenate([features, copies])
        weights = np.concatenate([weights, np.full(len(y), recipe.areas.weight)])
    report("Features", 1, 1)
    parameters, names = recipe.boosting(), list(fitted.plan.outputs)
    fit = lgb.Dataset(features, np.resize(y, len(features)), weight=weights, feature_name=names, params=parameters)
    validation = lgb.Dataset(
        fitted.features(dataset.features[split.validation]),
        dataset.target[split.validation],
        reference=fit,
        feature_name=names,
        params=parameters,
    )
    booster = lgb.train(
        parameters,
        fit,
        num_boost_round=recipe.max_rounds,
        valid_sets=[validation],
        callbacks=[
            lgb.early_stopping(recipe.early_stopping_rounds, verbose=False),
            lambda environment: report("Boosting", environment.iteration + 1, recipe.max_rounds),
        ],
    )
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    return Boosted(fitted, text, booster.best_iteration, features, weights)


def area_splits(dataset: Dataset, areas: Areas, seed: int) -> Iterator[Split]:
    """Splits whose test rows are a fifth of the areas, held out whole, `areas.holdouts` of them.

    The areas are k-means clusters of all rows; the rest is split into fit and validation rows at random.
    """
    labels = cluster_areas(areas, dataset.names, dataset.features, seed)
    names = np.unique(labels)
    for repetition in range(areas.holdouts):
        chosen = np.random.default_rng(repetition).permutation(names)[: max(1, round(UNSEEN_SHARE * len(names)))]
        unseen = np.isin(labels, chosen)
        fit, validation = train_test_split(np.flatnonzero(~unseen), test_size=0.2, random_state=repetition)
        yield Split(np.asarray(fit), np.asarray(validation), np.flatnonzero(unseen))


def unseen_areas(dataset: Dataset, recipe: Recipe, report: Report = silent) -> tuple[card.UnseenArea, ...]:
    """Train without some areas and predict them, some times over; nothing where the recipe names no areas.

    Compared are the recipe, the recipe without leave-area-out copies, and without reference features.
    """
    if recipe.areas is None:
        return ()
    total = recipe.areas.holdouts
    without_copies = msgspec.structs.replace(recipe, areas=msgspec.structs.replace(recipe.areas, weight=0.0))
    results: list[card.UnseenArea] = []
    for split in area_splits(dataset, recipe.areas, recipe.seed):
        report("Unseen areas", len(results), total)
        boosted = boost(dataset, recipe, split)
        plain = boost(dataset, without_copies, split, fitted=boosted.fitted)
        stateless = boost(dataset, without_references(recipe), split)
        results.append(
            card.UnseenArea(
                repetition=len(results) + 1,
                rows=len(split.test),
                rmse=boosted.test_rmse(dataset, split),
                rmse_without_copies=plain.test_rmse(dataset, split),
                rmse_without_references=stateless.test_rmse(dataset, split),
            )
        )
    report("Unseen areas", total, total)
    return tuple(results)


def without_references(recipe: Recipe) -> Recipe:
    """The recipe's stateless part."""
    known = {*(step.output for step in recipe.steps), *(column.name for column in recipe.inputs)}
    outputs = tuple(name for name in recipe.outputs if name in known)
    return msgspec.structs.replace(recipe, references=(), areas=None, outputs=outputs)


def _out_of_fold(boosted: Boosted, recipe: Recipe, y: Array, report: Report) -> tuple[Array, card.Folds]:
    """Residuals float64[N] of the fit rows, by boosters on the other folds with as many trees, and RMSE by fold.

    The plan is not fitted anew for each fold: features of the rows boosted on know the held rows' targets as those of
    neighbours. That makes the residuals a little smaller than they should be; the intervals' calibration on other rows
    makes up for it.
    """
    parameters = recipe.boosting()
    residuals = np.empty(len(y))
    errors: list[float] = []
    targets = np.resize(y, len(boosted.features))
    places = np.resize(np.arange(len(y)), len(boosted.features))
    for number, (_, held) in enumerate(KFold(FOLDS, shuffle=True, random_state=recipe.seed).split(y)):
        report("Folds", number, FOLDS)
        rest = np.flatnonzero(~np.isin(places, held))
        data = lgb.Dataset(boosted.features[rest], targets[rest], weight=boosted.weights[rest], params=parameters)
        booster = lgb.train(parameters, data, num_boost_round=max(1, boosted.rounds))
        predicted = np.asarray(booster.predict(boosted.features[held], num_threads=1))
        residuals[held] = y[held] - predicted
        errors.append(float(np.sqrt(np.mean(residuals[held] ** 2))))
    report("Folds", FOLDS, FOLDS)
    return residuals, card.folds_of(errors)


def _calibrate(parts: ModelParts, dataset: Dataset, split: Split, recipe: Recipe) -> Intervals:
    answer = parts.engine().evaluate(dataset.features[split.validation])
    assert answer.difficulty is not None
    return fit_intervals(answer.prediction, answer.difficulty, dataset.target[split.validation], recipe.levels)


def _coverage(intervals: Intervals | None, answer: Evaluation, target: Array) -> tuple[Coverage, ...]:
    if intervals is None or answer.difficulty is None:
        return ()
    return tuple(coverage(intervals, answer.prediction, answer.difficulty, target, level) for level in intervals.levels)


def _evaluate(part: str, predicted: Array, actual: Array) -> dict[str, float]:
    residual = predicted - actual
    return {
        f"{part}_rmse": float(np.sqrt(np.mean(residual**2))),
        f"{part}_mae": float(np.mean(np.abs(residual))),
        f"{part}_r2": float(1 - np.sum(residual**2) / np.sum((actual - actual.mean()) ** 2)),
    }


def _cost(engine: Engine, rows: Array) -> card.Cost:
    """Medians of nine timings, after one call that is not timed."""
    batch = rows[:1000]

    def median(part: Array, calls: int) -> float:
        engine.evaluate(part)
        timings: list[float] = []
        for _ in range(9):
            started = time.perf_counter()
            for _ in range(calls):
                engine.evaluate(part)
            timings.append((time.perf_counter() - started) / calls)
        return float(np.median(timings)) * 1e6

    return card.Cost(
        batch_rows=len(batch), batch_us_per_row=median(batch, 1) / len(batch), single_row_us=median(batch[:1], 20)
    )


def _error_map(dataset: Dataset, recipe: Recipe, rows: Rows, errors: Array) -> ErrorMap | None:
    if recipe.areas is None or len(recipe.areas.inputs) != 2:
        return None
    y_name, x_name = recipe.areas.inputs
    x, y = (dataset.features[rows, dataset.names.index(name)] for name in (x_name, y_name))
    return ErrorMap(x=x, y=y, absolute_error=errors, x_name=x_name, y_name=y_name, degrees=recipe.areas.degrees)
