"""Fitted pipelines, and what their conversion predicts."""

import warnings
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline, make_pipeline

from app.feature import Feature
from app.models.convert.fold import Folded, fold
from app.models.convert.steps_output import run_steps
from app.models.convert.wrapped import find_model
from app.models.frame import engine_rows

PARAMETERS: dict[str, Any] = {
    "n_estimators": 8,
    "num_leaves": 7,
    "min_child_samples": 3,
    "n_jobs": 1,
    "verbosity": -1,
    "random_state": 1,
}


def table(n: int = 300) -> pd.DataFrame:
    """Columns of every kind: numbers, missing ones among them, whole numbers, booleans and texts."""
    random = np.random.default_rng(5)
    rows = pd.DataFrame(
        {
            "income": random.lognormal(size=n),
            "debt": random.normal(size=n) * 1e-3,
            "rooms": random.integers(0, 9, n),
            "single": random.normal(size=n).astype(np.float32),
            "owner": random.random(n) < 0.5,
            "city": pd.Series(random.choice(["Rome", "Oslo", "Bern", "Lima"], n), dtype=object),
            "level": random.choice([1.5, 2.0, 7.0], n),
            "id": pd.Series([f"row {index}" for index in range(n)], dtype=object),
        }
    )
    rows.loc[random.random(n) < 0.1, "debt"] = np.nan
    return rows


def target(rows: pd.DataFrame) -> NDArray[np.float64]:
    """float64[n], which depends on every column of `table`."""
    return np.asarray(
        rows.income
        + rows.debt.fillna(0.004) * 1000
        + (rows.rooms == 3)
        + rows.single
        + rows.owner
        + rows.city.map({"Rome": 0.0, "Oslo": 2.0, "Bern": -1.0, "Lima": 1.0}).fillna(3)
        + (rows.level == 2.0)
    )


def fitted(*steps: Any, rows: Any = None, model: Any = None) -> Pipeline:
    """A pipeline of the steps and a regressor, fitted to `target`."""
    rows = table() if rows is None else rows
    model = lgb.LGBMRegressor(**PARAMETERS) if model is None else model
    pipeline = make_pipeline(*steps, model)
    wanted = target(table()[: len(rows)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LightGBM's of names
        return pipeline.fit(rows, wanted > np.median(wanted) if isinstance(model, lgb.LGBMClassifier) else wanted)


def folded(pipeline: Any, sample: pd.DataFrame, **options: bool) -> Folded:
    wrapped = find_model(pipeline)
    options = {"as_array": False, "unseen_as_missing": False} | options
    return fold(wrapped.booster.model_to_string(), wrapped.steps, sample, **options)


def predict_folded(result: Folded, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Raw scores of the converted booster for raw rows."""
    features = tuple(
        Feature(name=str(rows.columns[column]), categories=result.categories.get(column)) for column in result.columns
    )
    booster = lgb.Booster(model_str=result.text)
    return np.asarray(booster.predict(engine_rows(rows, features), raw_score=True))


def predict_steps(pipeline: Any, rows: Any) -> NDArray[np.float64]:
    """Raw scores of the pipeline."""
    wrapped = find_model(pipeline)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(wrapped.model.predict(run_steps(wrapped.steps, rows), raw_score=True))
