"""Models of LightGBM's scikit-learn API, which MLflow stores as Python objects."""

from pathlib import Path
from typing import Any

import joblib
import lightgbm as lgb
import mlflow
import mlflow.lightgbm
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from tests.ways.boosters import VALUE, log, signed
from tests.ways.columns import TEXTS
from tests.ways.data import ASKED, FEW, classes, numbers, price, train, with_categories, with_strangers
from tests.ways.way import REGISTERED, Logged, register, way

UNTRUSTED = "The saved sklearn model references untrusted types"
"""MLflow's reason not to store some models in the skops format, the default since 3.10."""

PROBABILITY, PROBABILITIES = "probability", "probabilities"
TRUSTED = ["collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"]


class OurClassifier(lgb.LGBMClassifier):
    """A class of a package."""


def squares(truth: Any, scores: Any) -> tuple[Any, Any]:
    """Gradient and Hessian of half the squared error."""
    return scores - truth, np.ones_like(scores)


def regressor(frame: pd.DataFrame, **options: Any) -> Any:
    return lgb.LGBMRegressor(**FEW, **options).fit(frame, price(frame))


def classifier(frame: pd.DataFrame, *labels: Any, kind: Any = lgb.LGBMClassifier, **options: Any) -> Any:
    return kind(**FEW, **options).fit(frame, classes(frame, *labels))


def by_sklearn(model: Any, asked: pd.DataFrame, **options: Any) -> Logged:
    """Log by `mlflow.sklearn`."""
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, name="model", registered_model_name=REGISTERED, pip_requirements=[], **options)
    return Logged(model, asked.head(ASKED))


@way(
    "`mlflow.lightgbm.autolog()`, `LGBMClassifier().fit(…)`", PROBABILITY, note="`label` and `probabilities` beside it"
)
def autologged_classifier(_: Path) -> Logged:
    frame = numbers()
    mlflow.lightgbm.autolog(registered_model_name=REGISTERED, silent=True)
    return Logged(classifier(frame, 0, 1), frame.head(ASKED))


@way("`mlflow.lightgbm.autolog()`, `LGBMRegressor().fit(…)`", VALUE)
def autologged_regressor(_: Path) -> Logged:
    frame = numbers()
    mlflow.lightgbm.autolog(registered_model_name=REGISTERED, log_input_examples=True, silent=True)
    return Logged(regressor(frame), frame.head(ASKED))


def ranker(frame: pd.DataFrame) -> Any:
    return lgb.LGBMRanker(**FEW).fit(frame, classes(frame, 0, 1, 2), group=[10] * 24)


@way("`mlflow.lightgbm.autolog()`, `LGBMRanker().fit(…)`", unlogged=UNTRUSTED, note="log it yourself, as below")
def autologged_ranker(_: Path) -> Logged:
    frame = numbers()
    mlflow.lightgbm.autolog(registered_model_name=REGISTERED, silent=True)
    return Logged(ranker(frame), frame.head(ASKED))


@way("`mlflow.lightgbm.log_model(LGBMRegressor)`", VALUE, note="skops")
def skops_regressor(_: Path) -> Logged:
    frame = numbers()
    return signed(regressor(frame), frame)


@way("`mlflow.lightgbm.log_model(LGBMRegressor)`, no signature", VALUE)
def unsigned_regressor(_: Path) -> Logged:
    frame = numbers()
    return log(regressor(frame), frame)


@way("`mlflow.lightgbm.log_model(LGBMRanker)`", unlogged=UNTRUSTED)
def unlogged_ranker(_: Path) -> Logged:
    frame = numbers()
    return log(ranker(frame), frame)


@way('… `skops_trusted_types=["lightgbm.sklearn.LGBMRanker"]`', "score")
def skops_ranker(_: Path) -> Logged:
    frame = numbers()
    return signed(ranker(frame), frame, skops_trusted_types=["lightgbm.sklearn.LGBMRanker"])


@way("`mlflow.lightgbm.log_model(LGBMClassifier)`", PROBABILITY, note="labels 0 and 1")
def skops_classifier(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, 0, 1), frame)


@way('`serialization_format="pickle"`', PROBABILITY)
def pickled(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, 0, 1), frame, serialization_format="pickle")


@way('`serialization_format="cloudpickle"`, as before MLflow 3.10', PROBABILITY)
def cloudpickled(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, 0, 1), frame, serialization_format="cloudpickle")


@way("labels of text", PROBABILITY)
def text_labels(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, "stays", "leaves"), frame)


@way("labels of text, pickled", PROBABILITY)
def pickled_text_labels(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, "stays", "leaves"), frame, serialization_format="pickle")


@way("boolean labels", PROBABILITY)
def boolean_labels(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, False, True), frame)


@way("three classes, labels of text", PROBABILITIES)
def three_texts(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, "low", "middle", "high"), frame)


@way('three classes, `class_weight="balanced"`, labels 1, 5, 9', PROBABILITIES)
def three_numbers(_: Path) -> Logged:
    frame = numbers()
    return signed(classifier(frame, 1, 5, 9, class_weight="balanced"), frame)


@way("signature of `predict_proba`", PROBABILITY)
def signed_by_probabilities(_: Path) -> Logged:
    frame = numbers()
    model = classifier(frame, 0, 1)
    return log(model, frame, signature=infer_signature(frame, model.predict_proba(frame)))


@way("fitted on an array", PROBABILITY, note="the features are `Column_0`, `Column_1`, …")
def of_an_array(_: Path) -> Logged:
    frame = numbers()
    model = lgb.LGBMClassifier(**FEW).fit(frame.to_numpy(), classes(frame, 0, 1))
    return log(model, frame.set_axis(model.booster_.feature_name(), axis=1))


@way("early stopping (`eval_set=`)", PROBABILITY, note="of the best iteration")
def stopped_early(_: Path) -> Logged:
    frame = numbers()
    target = classes(frame, 0, 1)
    noisy = np.where(np.random.default_rng(3).random(len(frame)) < 0.2, 1 - target, target)
    model = lgb.LGBMClassifier(**FEW | {"n_estimators": 90})
    model.fit(frame, target, eval_set=[(frame, noisy)], callbacks=[lgb.early_stopping(2, verbose=False)])
    assert 1 < model.best_iteration_ < 90
    return signed(model, frame)


@way("pandas categories", PROBABILITY)
def categories(_: Path) -> Logged:
    frame, target = with_categories(TEXTS)
    model = lgb.LGBMClassifier(**FEW).fit(frame, target > target.median())
    return signed(model, frame, with_strangers(frame, "igloo"), unseen=1, pyfunc=False)


@way(
    "`objective=function`",
    "raw_score",
    note="`predict` gives these too",
)
def custom_objective(_: Path) -> Logged:
    frame = numbers()
    return signed(regressor(frame, objective=squares), frame, serialization_format="cloudpickle")


@way("a subclass of `LGBMClassifier` in a notebook or script, cloudpickle", PROBABILITY)
def subclass_of_a_script(_: Path) -> Logged:
    class OurClassifier(lgb.LGBMClassifier):
        """One that cloudpickle writes into the file, since it cannot be imported."""

    frame = numbers()
    return signed(classifier(frame, 0, 1, kind=OurClassifier), frame, serialization_format="cloudpickle")


@way(
    "a subclass of `LGBMClassifier` in a module",
    PROBABILITY,
    refused="the model is a tests.ways.estimators.OurClassifier, a Python object that computes its predictions with a "
    "LightGBM booster at its attribute _Booster",
    note="a pickle does not say what a class derives from",
)
def subclass_of_a_module(_: Path) -> Logged:
    frame = numbers()
    model = classifier(frame, 0, 1, kind=OurClassifier)
    return signed(model, frame, serialization_format="cloudpickle", input_example=frame.head(ASKED))


@way("`mlflow.sklearn.log_model(LGBMClassifier)`", unlogged=UNTRUSTED)
def sklearn_unlogged(_: Path) -> Logged:
    frame = numbers()
    return by_sklearn(classifier(frame, 0, 1), frame)


@way("`mlflow.sklearn.log_model(LGBMClassifier)`, cloudpickle", PROBABILITY)
def sklearn_cloudpickled(_: Path) -> Logged:
    frame = numbers()
    model = classifier(frame, 0, 1)
    return by_sklearn(
        model, frame, serialization_format="cloudpickle", signature=infer_signature(frame, model.predict(frame))
    )


@way("`mlflow.sklearn.log_model(LGBMRegressor)`, pickle", VALUE)
def sklearn_pickled(_: Path) -> Logged:
    frame = numbers()
    return by_sklearn(regressor(frame), frame, serialization_format="pickle", input_example=frame.head(2))


@way("`mlflow.sklearn.log_model(LGBMClassifier)`, `skops_trusted_types=`", PROBABILITY)
def sklearn_skops(_: Path) -> Logged:
    frame = numbers()
    return by_sklearn(classifier(frame, "no", "yes"), frame, skops_trusted_types=TRUSTED)


@way("`mlflow.sklearn.log_model(booster)`, cloudpickle", VALUE)
def sklearn_booster(_: Path) -> Logged:
    frame = numbers()
    return by_sklearn(train(frame, price(frame)), frame, serialization_format="cloudpickle")


@way(
    '`extra_files=["booster.txt"]`, the text of `model.booster_`',
    PROBABILITY,
    note="the text is read and not the object, so there are no labels",
)
def extra_files(directory: Path) -> Logged:
    frame = numbers()
    model = classifier(frame, 0, 1)
    model.booster_.save_model(str(directory / "booster.txt"))
    logged = log(model, frame, extra_files=[str(directory / "booster.txt")], pyfunc=None)
    return logged._replace(model=model.booster_)


@way(
    "`joblib.dump`, `log_artifact`, `create_model_version`",
    refused="the model has no file 'MLmodel'",
    kept="the model has no file 'MLmodel'",
)
def joblib_file(directory: Path) -> Logged:
    frame = numbers()
    model = classifier(frame, 0, 1)
    joblib.dump(model, directory / "model.joblib")
    register(directory)
    return Logged(model, frame.head(ASKED))


WAYS = (
    autologged_classifier,
    autologged_regressor,
    autologged_ranker,
    skops_regressor,
    unsigned_regressor,
    unlogged_ranker,
    skops_ranker,
    skops_classifier,
    pickled,
    cloudpickled,
    text_labels,
    pickled_text_labels,
    boolean_labels,
    three_texts,
    three_numbers,
    signed_by_probabilities,
    of_an_array,
    stopped_early,
    categories,
    custom_objective,
    subclass_of_a_script,
    subclass_of_a_module,
    sklearn_unlogged,
    sklearn_cloudpickled,
    sklearn_pickled,
    sklearn_skops,
    sklearn_booster,
    extra_files,
    joblib_file,
)
