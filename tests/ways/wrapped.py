"""LightGBM models inside other Python objects, and models of other flavors."""

from pathlib import Path
from typing import Any

import lightgbm as lgb
import mlflow
import mlflow.lightgbm
import mlflow.pyfunc
import mlflow.sklearn
import pandas as pd
from mlflow.models import Model
from mlflow.pyfunc import PythonModel
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from tests.ways.boosters import VALUE
from tests.ways.columns import TEXTS
from tests.ways.data import ASKED, FEW, NUMBERS, classes, numbers, price, train, with_categories, with_missing
from tests.ways.estimators import PROBABILITY, classifier
from tests.ways.way import REGISTERED, Logged, register, way


def one_in(kind: str, place: str) -> str:
    """Reason to refuse an object with a LightGBM model in it."""
    return f"the model is a {kind}, a Python object that computes its predictions with a LightGBM booster at {place}"


def two_in(kind: str, place: str) -> str:
    return f"the model is a {kind}, a Python object that computes its predictions with 2 LightGBM boosters at {place}"


def pipeline(place: str) -> str:
    return one_in("sklearn.pipeline.Pipeline", place)


def python_model(name: str) -> str:
    return (
        f"the model is a tests.ways.wrapped.{name}, a PythonModel of mlflow.pyfunc that computes its predictions with "
        "a LightGBM booster at model"
    )


def flavor(name: str) -> str:
    return f"the model's flavor is {name}: LightGBM's models are served, of the flavors lightgbm, sklearn and madrone"


class Attribute(PythonModel):
    """Holds the model as an attribute, and adds nothing."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.model.predict(model_input)


class File(PythonModel):
    """Loads the model from an artifact."""

    def load_context(self, context: Any) -> None:
        self.model = lgb.Booster(model_file=context.artifacts["booster"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return self.model.predict(model_input)


def by_pickle(model: Any, asked: pd.DataFrame, **options: Any) -> Logged:
    """Log by `mlflow.sklearn` as before MLflow 3.10, with an input example."""
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model,
            **{"name": "model", "registered_model_name": REGISTERED, "pip_requirements": []}
            | {"serialization_format": "cloudpickle", "input_example": asked.head(ASKED)}
            | options,
        )
    return Logged(model, asked.head(ASKED))


def by_pyfunc(model: Any, asked: pd.DataFrame, answering: Any, **options: Any) -> Logged:
    """Log by `mlflow.pyfunc`."""
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model", python_model=model, registered_model_name=REGISTERED, pip_requirements=[],
            input_example=asked.head(ASKED), **options,
        )  # fmt: skip
    return Logged(answering, asked.head(ASKED))


def by_hand(directory: Path, flavor: str, **attributes: Any) -> Logged:
    """Register the MLmodel file of a flavor whose library is not installed, as MLflow writes it."""
    frame = numbers()
    model = Model().add_flavor("python_function", loader_module=f"mlflow.{flavor}", python_version="3.12.3")
    model.add_flavor(flavor, **attributes).save(str(directory / "MLmodel"))
    register(directory)
    return Logged(None, frame.head(ASKED), pyfunc=False)


@way(
    "`Pipeline` of `StandardScaler` and `LGBMClassifier`",
    PROBABILITY,
    refused=pipeline("steps[1] 'model'"),
)
def scaled(_: Path) -> Logged:
    frame = numbers()
    model = Pipeline([("scale", StandardScaler()), ("model", lgb.LGBMClassifier(**FEW))])
    return by_pickle(model.set_output(transform="pandas").fit(frame, classes(frame, 0, 1)), frame)


@way(
    "`Pipeline` of `SimpleImputer`, `StandardScaler` and `LGBMRegressor`",
    VALUE,
    refused=pipeline("steps[2] 'model'"),
)
def imputed(_: Path) -> Logged:
    frame = with_missing()
    steps: list[Any] = [("fill", SimpleImputer(strategy="median")), ("scale", StandardScaler())]
    model = Pipeline([*steps, ("model", lgb.LGBMRegressor(**FEW))])
    return by_pickle(model.set_output(transform="pandas").fit(frame, price(frame)), frame)


def encoded(encoder: Any) -> Logged:
    frame, target = with_categories(TEXTS)
    frame["kind"] = frame["kind"].astype(str).astype(object)
    columns = ColumnTransformer([("kind", encoder, ["kind"]), ("rest", "passthrough", list(NUMBERS))])
    model = Pipeline([("columns", columns), ("model", lgb.LGBMRegressor(**FEW))])
    return by_pickle(model.set_output(transform="pandas").fit(frame, target), frame)


@way(
    "`Pipeline` of `ColumnTransformer`, `OrdinalEncoder` and `LGBMRegressor`",
    VALUE,
    refused=pipeline("steps[1] 'model'"),
)
def ordinal(_: Path) -> Logged:
    return encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1))


@way(
    "`Pipeline` of `ColumnTransformer`, `OneHotEncoder` and `LGBMRegressor`",
    VALUE,
    refused=pipeline("steps[1] 'model'"),
)
def one_hot(_: Path) -> Logged:
    return encoded(OneHotEncoder(sparse_output=False))


@way("`mlflow.lightgbm.log_model(pipeline)`", PROBABILITY, refused=pipeline("steps[1] 'model'"))
def pipeline_as_lightgbm(_: Path) -> Logged:
    frame = numbers()
    model = Pipeline([("scale", StandardScaler()), ("model", lgb.LGBMClassifier(**FEW))])
    model.set_output(transform="pandas").fit(frame, classes(frame, 0, 1))
    with mlflow.start_run():
        mlflow.lightgbm.log_model(
            model, name="model", registered_model_name=REGISTERED, pip_requirements=[],
            serialization_format="cloudpickle", input_example=frame.head(ASKED),
        )  # fmt: skip
    return Logged(model, frame.head(ASKED))


@way(
    "`mlflow.sklearn.autolog()`, a `Pipeline` with LightGBM",
    PROBABILITY,
    refused=pipeline("steps[1] 'model'"),
)
def autologged_pipeline(_: Path) -> Logged:
    frame = numbers()
    mlflow.sklearn.autolog(
        registered_model_name=REGISTERED, log_input_examples=True, silent=True, log_post_training_metrics=False,
        serialization_format="cloudpickle",
    )  # fmt: skip
    model = Pipeline([("scale", StandardScaler()), ("model", lgb.LGBMClassifier(**FEW))])
    return Logged(model.set_output(transform="pandas").fit(frame, classes(frame, 0, 1)), frame.head(ASKED))


@way(
    "`GridSearchCV(LGBMClassifier)`",
    PROBABILITY,
    refused=one_in("sklearn.model_selection._search.GridSearchCV", "best_estimator_"),
)
def grid(_: Path) -> Logged:
    frame = numbers()
    model = GridSearchCV(lgb.LGBMClassifier(**FEW), {"num_leaves": [4, 6]}, cv=2)
    return by_pickle(model.fit(frame, classes(frame, 0, 1)), frame)


@way(
    "`RandomizedSearchCV(LGBMRegressor)`",
    VALUE,
    refused=one_in("sklearn.model_selection._search.RandomizedSearchCV", "best_estimator_"),
)
def randomized(_: Path) -> Logged:
    frame = numbers()
    model = RandomizedSearchCV(lgb.LGBMRegressor(**FEW), {"num_leaves": [4, 6]}, n_iter=2, cv=2, random_state=1)
    return by_pickle(model.fit(frame, price(frame)), frame)


@way(
    "`CalibratedClassifierCV(LGBMClassifier)`",
    refused=two_in("sklearn.calibration.CalibratedClassifierCV", "calibrated_classifiers_[0] → estimator"),
    kept="it corrects the probabilities of its models by curves of their own: no one booster does that",
)
def calibrated(_: Path) -> Logged:
    frame = numbers()
    model = CalibratedClassifierCV(lgb.LGBMClassifier(**FEW), cv=2)
    return by_pickle(model.fit(frame, classes(frame, 0, 1)), frame)


@way(
    "`VotingRegressor` of two `LGBMRegressor`s",
    refused=two_in("sklearn.ensemble._voting.VotingRegressor", "estimators_[0]"),
    kept="it averages several models: no one booster does that",
)
def voting(_: Path) -> Logged:
    frame = numbers()
    model = VotingRegressor([("a", lgb.LGBMRegressor(**FEW)), ("b", lgb.LGBMRegressor(**FEW))])
    return by_pickle(model.fit(frame, price(frame)), frame)


@way(
    "`MultiOutputRegressor(LGBMRegressor)`",
    refused=two_in("sklearn.multioutput.MultiOutputRegressor", "estimators_[0]"),
    kept="it has a model of its own for each output: no one booster does that",
)
def many_outputs(_: Path) -> Logged:
    frame = numbers()
    model = MultiOutputRegressor(lgb.LGBMRegressor(**FEW))
    return by_pickle(model.fit(frame, pd.DataFrame({"a": price(frame), "b": -price(frame)})), frame)


@way(
    "`TransformedTargetRegressor(LGBMRegressor)`",
    refused=one_in("sklearn.compose._target.TransformedTargetRegressor", "regressor_"),
    kept="it transforms what the model predicts: no one booster does that",
)
def transformed_target(_: Path) -> Logged:
    frame = numbers()
    model = TransformedTargetRegressor(lgb.LGBMRegressor(**FEW), transformer=StandardScaler())
    return by_pickle(model.fit(frame, price(frame)), frame)


@way("`PythonModel` with a booster as its attribute", VALUE, refused=python_model("Attribute"))
def attribute(_: Path) -> Logged:
    frame = numbers()
    model = train(frame, price(frame))
    return by_pyfunc(Attribute(model), frame, model)


@way(
    "`PythonModel` with an `LGBMClassifier` as its attribute",
    PROBABILITY,
    refused=python_model("Attribute"),
)
def classifier_as_attribute(_: Path) -> Logged:
    frame = numbers()
    model = classifier(frame, 0, 1)
    return by_pyfunc(Attribute(model), frame, model)


@way("`PythonModel` with the booster's text in `artifacts=`", VALUE, refused=python_model("File"))
def artifact(directory: Path) -> Logged:
    frame = numbers()
    model = train(frame, price(frame))
    model.save_model(str(directory / "booster.txt"))
    return by_pyfunc(File(), frame, model, artifacts={"booster": str(directory / "booster.txt")})


CODE = """
import lightgbm
import mlflow
import pandas


class File(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.model = lightgbm.Booster(model_file=context.artifacts["booster"])

    def predict(self, context, model_input: pandas.DataFrame, params=None):
        return self.model.predict(model_input)


mlflow.models.set_model(File())
"""


@way(
    'models from code (`python_model="model.py"`)',
    VALUE,
    refused="the model is a Python function, loaded by the module mlflow.pyfunc.loaders.code_model, and such code is "
    "not run",
)
def from_code(directory: Path) -> Logged:
    frame = numbers()
    model = train(frame, price(frame))
    model.save_model(str(directory / "booster.txt"))
    (directory / "model.py").write_text(CODE)
    artifacts = {"booster": str(directory / "booster.txt")}
    return by_pyfunc(str(directory / "model.py"), frame, model, artifacts=artifacts)


@way("`mlflow.onnx.log_model`", refused=flavor("onnx"), kept=flavor("onnx"))
def onnx(directory: Path) -> Logged:
    return by_hand(directory, "onnx", onnx_version="1.19.0", data="model.onnx", providers=["CPUExecutionProvider"])


@way("`mlflow.spark.log_model` (SynapseML)", refused=flavor("spark"), kept=flavor("spark"))
def spark(directory: Path) -> Logged:
    return by_hand(directory, "spark", pyspark_version="4.0.1", model_data="sparkml", code=None)


@way("`mlflow.xgboost.log_model`", refused=flavor("xgboost"), kept=flavor("xgboost"))
def xgboost(directory: Path) -> Logged:
    return by_hand(directory, "xgboost", xgb_version="3.1.0", data="model.ubj", model_class="xgboost.core.Booster")


WAYS = (
    scaled,
    imputed,
    ordinal,
    one_hot,
    pipeline_as_lightgbm,
    autologged_pipeline,
    grid,
    randomized,
    calibrated,
    voting,
    many_outputs,
    transformed_target,
    attribute,
    classifier_as_attribute,
    artifact,
    from_code,
    onnx,
    spark,
    xgboost,
)
