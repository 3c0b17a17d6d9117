"""Boosters of `lightgbm.train`, which MLflow stores in LightGBM's own text."""

from pathlib import Path
from typing import Any

import lightgbm as lgb
import mlflow
import mlflow.lightgbm
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import infer_signature

from tests.ways.data import ASKED, QUIET, classes, numbers, price, train, with_missing
from tests.ways.way import REGISTERED, Logged, register, way

VALUE = "value"


def log(model: Any, asked: pd.DataFrame, **options: Any) -> Logged:
    """Log by `mlflow.lightgbm`; an option that is an attribute of `Logged` goes there."""
    told = {name: options.pop(name) for name in Logged._fields if name in options}
    with mlflow.start_run():
        mlflow.lightgbm.log_model(
            model, **{"name": "model", "registered_model_name": REGISTERED, "pip_requirements": []} | options
        )
    return Logged(model, asked.head(ASKED), **told)


def signed(model: Any, frame: pd.DataFrame, asked: pd.DataFrame | None = None, **options: Any) -> Logged:
    """Log with a signature of the frame."""
    signature = infer_signature(frame, model.predict(frame))
    return log(model, frame if asked is None else asked, signature=signature, **options)


def named(model: lgb.Booster, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame under the names that a booster gives to the columns of an array."""
    return frame.set_axis(model.feature_name(), axis=1)


@way('`mlflow.lightgbm.log_model(booster, name="model")`, no signature', VALUE)
def plain(_: Path) -> Logged:
    frame = numbers()
    return log(train(frame, price(frame)), frame)


@way('`artifact_path="model"`, as before MLflow 3', VALUE)
def old_spelling(_: Path) -> Logged:
    frame = numbers()
    return log(train(frame, price(frame)), frame, name=None, artifact_path="model")


@way("trained on an array, no signature", VALUE, note="the features are `Column_0`, `Column_1`, …")
def of_an_array(_: Path) -> Logged:
    frame = numbers()
    model = train(frame.to_numpy(), price(frame))
    return log(model, named(model, frame))


@way("`signature=infer_signature(frame, predictions)`", VALUE)
def signed_by_a_frame(_: Path) -> Logged:
    frame = numbers()
    return signed(train(frame, price(frame)), frame)


@way("`signature=infer_signature(array, predictions)`", VALUE, note="the features are the booster's")
def signed_by_an_array(_: Path) -> Logged:
    frame = numbers()
    model = train(frame.to_numpy(), price(frame))
    signature = infer_signature(frame.to_numpy(), model.predict(frame))
    return log(model, named(model, frame), array=True, signature=signature)


@way("`pd.DataFrame(array)`, signature inferred", VALUE, note="the features are `0`, `1`, …")
def numbered(_: Path) -> Logged:
    frame = pd.DataFrame(numbers().to_numpy())
    return signed(train(frame, price(frame)), frame)


@way("columns with blanks in their names, signature inferred", VALUE, note="the features have the signature's names")
def with_blanks(_: Path) -> Logged:
    frame = numbers().set_axis(["monthly income", "number of rooms", "house age"], axis=1)
    return signed(train(frame, price(frame)), frame)


@way("`input_example=frame.head()`", VALUE)
def with_an_example(_: Path) -> Logged:
    frame = numbers()
    return log(train(frame, price(frame)), frame, input_example=frame.head(2))


@way("`input_example=array[:2]`", VALUE)
def with_an_array_as_example(_: Path) -> Logged:
    frame = numbers()
    model = train(frame.to_numpy(), price(frame))
    return log(model, named(model, frame), array=True, input_example=frame.to_numpy()[:2])


@way("trained with missing values, signature of `frame.dropna().head()`", VALUE, note="null is a missing value")
def signed_by_whole_rows(_: Path) -> Logged:
    frame = with_missing()
    model = train(frame, price(frame))
    return log(model, frame, signature=infer_signature(frame.dropna().head(), model.predict(frame.head())))


@way("trained with missing values, signature of the frame", VALUE, note="fields may be absent as well")
def signed_with_missing(_: Path) -> Logged:
    frame = with_missing()
    return signed(train(frame, price(frame)), frame)


@way("`lgb.early_stopping(…)`, `keep_training_booster=True`", VALUE, note="of the best iteration")
def stopped_early(_: Path) -> Logged:
    frame = numbers()
    noise = np.random.default_rng(3).normal(size=len(frame))
    data, rest = lgb.Dataset(frame, price(frame)), lgb.Dataset(frame, price(frame) + 9.0 * noise)
    stop = lgb.early_stopping(2, verbose=False)
    model = lgb.train(QUIET, data, 90, valid_sets=[rest], callbacks=[stop], keep_training_booster=True)
    assert 1 < model.best_iteration < model.current_iteration() < 90
    return log(model, frame)


@way('`objective="binary"`', "probability", note="no labels: a booster has none")
def binary(_: Path) -> Logged:
    frame = numbers()
    return signed(train(frame, classes(frame, 0, 1), objective="binary"), frame)


@way('`objective="multiclass"`', "probabilities", note="a list for each row")
def multiclass(_: Path) -> Logged:
    frame = numbers()
    return signed(train(frame, classes(frame, 0, 1, 2), objective="multiclass", num_class=3), frame)


@way('`objective="lambdarank"`', "score")
def ranking(_: Path) -> Logged:
    frame = numbers()
    return log(train(frame, classes(frame, 0, 1, 2), objective="lambdarank", group=[10] * 24), frame)


@way("`objective=function`", "raw_score", note="the function is not stored")
def custom_objective(_: Path) -> Logged:
    frame = numbers()

    def squares(scores: Any, data: lgb.Dataset) -> tuple[Any, Any]:
        return scores - np.asarray(data.get_label()), np.ones_like(scores)

    return log(train(frame, price(frame), objective=squares), frame)


@way('`objective="poisson"`, `weight=`', VALUE)
def weighted(_: Path) -> Logged:
    frame = numbers()
    weight = np.random.default_rng(5).random(len(frame))
    return log(train(frame, price(frame).abs(), objective="poisson", weight=weight), frame)


@way('`boosting="dart"`', VALUE)
def dart(_: Path) -> Logged:
    frame = numbers()
    return log(train(frame, price(frame), boosting="dart"), frame)


@way('`boosting="rf"`', VALUE)
def forest(_: Path) -> Logged:
    frame = numbers()
    return log(train(frame, price(frame), boosting="rf", bagging_freq=1, bagging_fraction=0.6), frame)


@way("`linear_tree=True`", VALUE, note="predicted by LightGBM itself")
def linear(_: Path) -> Logged:
    frame = numbers()
    return log(train(frame, price(frame), linear_tree=True), frame)


@way("`mlflow.lightgbm.autolog()`, `lgb.train(…)`", VALUE)
def autologged(_: Path) -> Logged:
    frame = numbers()
    mlflow.lightgbm.autolog(registered_model_name=REGISTERED, silent=True)
    data = lgb.Dataset(frame, price(frame))
    return Logged(lgb.train({"objective": "regression", **QUIET}, data, num_boost_round=4), frame.head(ASKED))


@way("`mlflow.register_model(info.model_uri, …)` later", VALUE)
def registered_later(_: Path) -> Logged:
    frame = numbers()
    model = train(frame, price(frame))
    with mlflow.start_run():
        info = mlflow.lightgbm.log_model(model, name="model", pip_requirements=[])
    mlflow.register_model(info.model_uri, REGISTERED)
    return Logged(model, frame.head(ASKED))


@way("`save_model`, `mlflow.log_artifacts`, `create_model_version`", VALUE)
def files(directory: Path) -> Logged:
    frame = numbers()
    model = train(frame, price(frame))
    mlflow.lightgbm.save_model(model, str(directory / "model"), pip_requirements=[])
    register(directory / "model")
    return Logged(model, frame.head(ASKED))


@way("`copy_model_version` of another registered model", VALUE)
def copied(_: Path) -> Logged:
    frame = numbers()
    logged = log(train(frame, price(frame)), frame, registered_model_name="ways-elsewhere")
    MlflowClient().copy_model_version("models:/ways-elsewhere/1", REGISTERED)
    return logged


WAYS = (
    plain,
    old_spelling,
    of_an_array,
    signed_by_a_frame,
    signed_by_an_array,
    numbered,
    with_blanks,
    with_an_example,
    with_an_array_as_example,
    signed_by_whole_rows,
    signed_with_missing,
    stopped_early,
    binary,
    multiclass,
    ranking,
    custom_objective,
    weighted,
    dart,
    forest,
    linear,
    autologged,
    registered_later,
    files,
    copied,
)
