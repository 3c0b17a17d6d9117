"""Fits a booster on a feature plan: early stopping, and out-of-fold predictions of the fit rows."""

from collections.abc import Callable

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from app.models.flavor import ModelParts
from app.training.card.contents import Folds, folds_of
from app.training.dataset import Dataset
from app.training.fitting import FittedPlan, fit_plan
from app.training.recipe import Recipe
from app.training.split import Split, cluster_areas

FOLDS = 5

Array = NDArray[np.float64]
Report = Callable[[str, int, int], None]
"""Receiver of progress: name of the stage, steps done, steps in all."""


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


class Boosted(msgspec.Struct, frozen=True):
    """A fitted plan, and a booster fitted on its features.

    Attributes:
        fitted: The plan.
        text: The booster in LightGBM's native text.
        rounds: Number of trees of the booster.
        features: float32[N + A, O], the booster's training rows: the features of the N fit rows, then those of their
            A leave-area-out copies.
        weights: float64[N + A], weights of these rows.
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
        """RMSE on the test rows, predicted as requests are."""
        residual = self.parts().engine().predict(dataset.features[split.test]) - dataset.target[split.test]
        return float(np.sqrt(np.mean(residual**2)))


def boost(
    dataset: Dataset, recipe: Recipe, split: Split, report: Report = silent, fitted: FittedPlan | None = None
) -> Boosted:
    """Fit plan and booster on the fit rows, with early stopping on the validation rows.

    Args:
        dataset: All rows.
        recipe: What to fit.
        split: Parts of the rows; the test rows are not touched.
        report: Receiver of progress.
        fitted: The plan, if it has been fitted on these rows before.
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


def out_of_fold(boosted: Boosted, recipe: Recipe, y: Array, report: Report) -> tuple[Array, Folds]:
    """Residuals float64[N] of the fit rows, and RMSE of each fold, by boosters on the other folds with as many trees.

    The plan is not fitted anew for each fold, so features of the training rows contain targets of the held-out rows, as
    those of neighbours. This makes the residuals a little too small; calibrating the intervals on other rows corrects
    for it.
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
    return residuals, folds_of(errors)
