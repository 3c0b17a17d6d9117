"""Models of every kind, as their users log them, each for MLflow's scoring app and for this service."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from mlflow import lightgbm, sklearn
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from tests.models.support import mlflows_own_warnings_silenced, save_referring

FEW: dict[str, Any] = {"num_leaves": 6, "min_data_in_leaf": 3, "num_threads": 1, "verbosity": -1, "seed": 1}
WIDTH = 3


def frame() -> Any:
    """200 rows of three numbers, between which the models have many thresholds."""
    random = np.random.default_rng(11)
    return pd.DataFrame(random.normal(size=(200, WIDTH)) * 3, columns=["a", "b", "c"])


def booster(rows: Any, target: Any, **changes: Any) -> lgb.Booster:
    return lgb.train(FEW | {"objective": "regression"} | changes, lgb.Dataset(rows, target), num_boost_round=8)


def signed(*columns: tuple[Any, ...]) -> ModelSignature:
    """A signature of columns, each a type, a name if it has one, and whether it is required."""
    return ModelSignature(Schema([ColSpec(kind, *rest) for kind, *rest in columns]))


def save(model: Any, directory: Path, signature: Any, flavor: Any = lightgbm, **options: Any) -> None:
    with mlflows_own_warnings_silenced():
        flavor.save_model(model, str(directory), signature=signature, pip_requirements=[], **options)


DOUBLES = (("double", "a"), ("double", "b"), ("double", "c"))


def value(rows: Any) -> Any:
    return rows.iloc[:, 0] * 2 + rows.iloc[:, 1].abs() + np.sin(rows.iloc[:, 2])


def save_doubles(directory: Path) -> None:
    rows = frame()
    save(booster(rows, value(rows)), directory, signed(*DOUBLES))


def save_optional(directory: Path) -> None:
    rows = frame()
    columns = (("double", "a"), ("double", "b", False), ("double", "c", False))
    save(booster(rows, value(rows)), directory, signed(*columns))


def save_integers(directory: Path) -> None:
    rows = frame()
    rows = rows.assign(a=(rows.a * 3).astype("int64"), b=(rows.b * 3).astype("int32"), c=rows.c > 0)
    rows["d"] = np.random.default_rng(2).normal(size=len(rows)).astype("float32")
    columns = (("long", "a"), ("integer", "b"), ("boolean", "c"), ("float", "d"))
    save(booster(rows, rows.a + rows.b + 9 * rows.c + rows.d), directory, signed(*columns))


def save_multiclass(directory: Path) -> None:
    rows = frame()
    target = np.digitize(value(rows), [-2, 4])
    save(booster(rows, target, objective="multiclass", num_class=3), directory, signed(*DOUBLES))


def save_classifier(directory: Path) -> None:
    rows = frame()
    labels = np.array(["low", "middle", "hïgh"])[np.digitize(value(rows), [-2, 4])]
    save(lgb.LGBMClassifier(n_estimators=8, **FEW).fit(rows, labels), directory, signed(*DOUBLES))


def save_binary(directory: Path) -> None:
    rows = frame()
    save(lgb.LGBMClassifier(n_estimators=8, **FEW).fit(rows, value(rows) > 0), directory, signed(*DOUBLES))


def save_probabilities(directory: Path) -> None:
    rows = frame()
    model = lgb.LGBMClassifier(n_estimators=8, **FEW).fit(rows, (value(rows) > 0).astype(int))
    options = {"serialization_format": "cloudpickle", "pyfunc_predict_fn": "predict_proba"}
    save(model, directory, signed(*DOUBLES), sklearn, **options)


def save_regressor(directory: Path) -> None:
    rows = frame()
    save(lgb.LGBMRegressor(n_estimators=8, **FEW).fit(rows, value(rows)), directory, signed(*DOUBLES))


def save_categories(directory: Path) -> None:
    rows = frame()
    rows["a"] = pd.Categorical(np.array(["red", "grün", "blue:1"])[(rows.b * 7).astype(int) % 3])
    target = rows.a.cat.codes % 2 + rows.b
    save(booster(rows, target, min_data_per_group=1), directory, signed(("string", "a"), *DOUBLES[1:]))


def save_tensor(directory: Path) -> None:
    rows = frame()
    signature = ModelSignature(Schema([TensorSpec(np.dtype("float64"), (-1, WIDTH))]))
    save(booster(rows, value(rows)), directory, signature)


def save_whole_tensor(directory: Path) -> None:
    rows = (frame() * 3).astype("int64")
    signature = ModelSignature(Schema([TensorSpec(np.dtype("int64"), (-1, WIDTH))]))
    save(booster(rows, value(rows)), directory, signature)


def save_unsigned(directory: Path) -> None:
    rows = frame()
    save(booster(rows, value(rows)), directory, False)


def save_unsigned_classifier(directory: Path) -> None:
    rows = frame()
    save(lgb.LGBMClassifier(n_estimators=8, **FEW).fit(rows, value(rows) > 0), directory, False)


def save_unnamed(directory: Path) -> None:
    rows = frame()
    save(booster(rows, value(rows)), directory, signed(("double",), ("double",), ("double",)))


def save_single(directory: Path) -> None:
    rows = frame()[["a"]]
    save(booster(rows, rows.a), directory, signed(("double", "a")))


def save_planned(directory: Path) -> None:
    save_referring(directory)


MODELS: dict[str, Callable[[Path], None]] = {
    "doubles": save_doubles,
    "optional": save_optional,
    "integers": save_integers,
    "multiclass": save_multiclass,
    "classifier": save_classifier,
    "binary": save_binary,
    "probabilities": save_probabilities,
    "regressor": save_regressor,
    "categories": save_categories,
    "tensor": save_tensor,
    "whole tensor": save_whole_tensor,
    "unsigned": save_unsigned,
    "unsigned classifier": save_unsigned_classifier,
    "unnamed": save_unnamed,
    "single": save_single,
    "planned": save_planned,
}
