"""Trains a model by a recipe: split, fit the plan, boost, calibrate intervals, evaluate, describe, save, register.

Intervals are calibrated on the validation rows: these have decided nothing but the number of trees.
"""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import lightgbm as lgb
import msgspec
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from numpy.typing import NDArray

from app.config.settings import Settings
from app.drift.histogram import quantile_histogram
from app.drift.profile import make_profile
from app.feature import Feature
from app.models.flavor import ModelParts, save_model
from app.models.predictions.interval import Intervals
from app.models.registry.embedded import Provenance
from app.models.registry.publish import publish
from app.training.boosting import Report, boost, out_of_fold, silent
from app.training.calibrate import Coverage, coverage, fit_difficulty, fit_intervals
from app.training.card import contents
from app.training.card.contents import Card, ErrorMap
from app.training.card.page import write_card
from app.training.dataset import Dataset
from app.training.evaluation import cost_of, error_map_of, errors_of, unseen_areas
from app.training.recipe import Recipe
from app.training.split import split_rows
from kernels.engine import Evaluation
from kernels.plan.plan import Plan

Array = NDArray[np.float64]


class TrainedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A trained model with its description.

    Attributes:
        recipe: Recipe that it was trained by.
        parts: Booster, plan, stored rows and intervals.
        example: Raw features of an example row, by name: the fit rows' medians.
        metrics: Metrics of each part of the split.
        card: Model card.
        error_map: Test rows and their errors, if the recipe names areas.
    """

    recipe: Recipe
    parts: ModelParts
    example: dict[str, float]
    metrics: dict[str, float]
    card: Card
    error_map: ErrorMap | None

    @property
    def plan(self) -> Plan:
        """The feature plan, which every trained model has."""
        if self.parts.plan is None:
            raise ValueError("the model has no feature plan")
        return self.parts.plan

    def save(self, directory: Path) -> None:
        """Write `model/`, in MLflow's format, and `card/`.

        Raises:
            FileExistsError: `model/` contains files already.
        """
        signature = ModelSignature(
            inputs=Schema([ColSpec(DataType.double, name) for name in self.plan.input_names]),
            outputs=Schema([ColSpec(DataType.double, "prediction")]),
        )
        save_model(directory / "model", self.parts, signature, self.example)
        write_card(self.card, directory / "card", self.error_map)

    def provenance(self, name: str) -> Provenance:
        """Parameters, metrics and tags for the MLflow run of a model of this name."""
        plan, data = self.plan, self.card.data
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
            name: Name of the registered model: MODEL_NAME of the service that will serve it.
            settings: Settings with the registry; None reads them from the environment, as the service does.

        Returns:
            Number of the new version.

        Raises:
            mlflow.exceptions.MlflowException: The registry refuses the model, or does not answer.
        """
        with tempfile.TemporaryDirectory() as scratch:
            self.save(Path(scratch))
            return publish(
                settings or Settings.from_environ(os.environ),
                Path(scratch) / "model",
                card=Path(scratch) / "card",
                **msgspec.structs.asdict(self.provenance(name)),
            )


def train(dataset: Dataset, recipe: Recipe, title: str = "Model", report: Report = silent) -> TrainedModel:
    """Fit on the fit rows, stop early and calibrate on the validation rows, evaluate on the test rows.

    Args:
        dataset: All rows.
        recipe: What to fit.
        title: Title of the card.
        report: Receiver of progress.

    Raises:
        PlanError: The recipe's plan is not valid.
        ValueError: The rows are too few for the recipe's levels, or a Gaussian process cannot be fitted.
    """
    split = split_rows(len(dataset.target), recipe.seed)
    boosted = boost(dataset, recipe, split, report)
    residuals, folds = out_of_fold(boosted, recipe, dataset.target[split.fit], report)
    parts = boosted.parts()
    if recipe.levels:
        own = boosted.features[: len(residuals)]
        difficulty = fit_difficulty(own, np.abs(residuals), boosted.fitted.plan.outputs)
        parts = msgspec.structs.replace(parts, difficulty=difficulty)
    engine = parts.engine()
    answers = {
        name: engine.evaluate(dataset.features[rows])
        for name, rows in (("fit", split.fit), ("validation", split.validation), ("test", split.test))
    }
    held = answers["validation"]
    if held.difficulty is not None:
        intervals = fit_intervals(held.prediction, held.difficulty, dataset.target[split.validation], recipe.levels)
        parts = msgspec.structs.replace(parts, intervals=intervals)
    metrics = {"trees": float(boosted.rounds)}
    for name, answer in answers.items():
        metrics |= errors_of(name, answer.prediction, dataset.target[getattr(split, name)])
    unseen = unseen_areas(dataset, recipe, report)
    unseen_rows = np.concatenate([answers["validation"].prediction, answers["test"].prediction])
    inputs = tuple(Feature(name=name) for name in dataset.names)
    profile = make_profile(inputs, dataset.features[split.fit], unseen_rows, "training")
    parts = msgspec.structs.replace(parts, profile=profile)
    summary = Card(
        title=title,
        created=datetime.now(UTC),
        data=contents.Data(
            source=dataset.source,
            rows=len(dataset.target),
            sha256=dataset.sha256,
            target=dataset.target_name,
            unit=recipe.unit,
        ),
        split=contents.SplitSummary(
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
        importance=contents.importance_of(boosted.text),
        histograms=contents.Histograms(
            features={
                name: quantile_histogram(dataset.features[split.fit, index]) for index, name in enumerate(dataset.names)
            },
            prediction=quantile_histogram(answers["fit"].prediction),
        ),
        cost=cost_of(engine, dataset.features[split.test]),
        outside_distance=engine.outside_distance,
        versions=contents.Versions.installed(),
    )
    medians = np.nanmedian(dataset.features[split.fit], axis=0)
    errors = np.abs(answers["test"].prediction - dataset.target[split.test])
    return TrainedModel(
        recipe=recipe,
        parts=parts,
        example=dict(zip(dataset.names, medians.tolist(), strict=True)),
        metrics=metrics,
        card=summary,
        error_map=error_map_of(dataset, recipe, split.test, errors),
    )


def _coverage(intervals: Intervals | None, answer: Evaluation, target: Array) -> tuple[Coverage, ...]:
    if intervals is None or answer.difficulty is None:
        return ()
    return tuple(coverage(intervals, answer.prediction, answer.difficulty, target, level) for level in intervals.levels)
