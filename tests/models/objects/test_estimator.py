"""Objects of LightGBM's scikit-learn API and boosters: the text, labels and best iteration that their files hold."""

import warnings
from typing import Any

import cloudpickle
import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from app.models.objects.booster import stored_booster
from app.models.objects.estimator import read_estimator
from kernels.forest.forest import load_forest
from tests.models.objects.support import (
    CLASSES,
    FORMATS,
    ROWS,
    cases,
    early_stopped,
    fitted,
    labelled,
    of_joblib,
    refusal,
)

RANKED = {"fit": {"group": [40, 40, 40]}}


def predicted(model: Any) -> NDArray[np.float64]:
    """Numbers that the object predicts: probabilities of a classifier, of the second class if there are two."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not isinstance(model, lgb.LGBMClassifier):
            return model.predict(cases())
        probabilities = model.predict_proba(cases())
        return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities


def served(content: bytes) -> NDArray[np.float64]:
    """Predictions of the kernels for the booster in a file."""
    return load_forest(stored_booster(content).text).predict(cases())


MODELS: dict[str, Any] = {
    "regressor": lambda: fitted(),
    "binary": lambda: labelled(["no", "yes"]),
    "multiclass": lambda: labelled([3, 7, 11]),
    "ranker": lambda: fitted(lgb.LGBMRanker, CLASSES, **RANKED),
    "booster": lambda: fitted().booster_,
    "stopped": lambda: early_stopped(lgb.LGBMRegressor, ROWS[:, 0]),
    "stopped multiclass": lambda: early_stopped(lgb.LGBMClassifier, CLASSES),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_format_of_every_class_predicts_as_the_object(name: str) -> None:
    model = MODELS[name]()
    booster = model if isinstance(model, lgb.Booster) else model.booster_
    expected = predicted(model)
    for stored in FORMATS.values():
        content = stored(model)
        estimator = read_estimator(content)
        assert estimator.text == booster.model_to_string(num_iteration=-1)
        assert estimator.class_name == f"{type(model).__module__}.{type(model).__qualname__}"
        assert estimator.labels == (tuple(model.classes_.tolist()) if isinstance(model, lgb.LGBMClassifier) else None)
        np.testing.assert_array_equal(served(content), expected)


@pytest.mark.parametrize("boosting", ["gbdt", "dart", "rf"])
@pytest.mark.parametrize("kind", [lgb.LGBMRegressor, lgb.LGBMClassifier])
def test_a_model_predicts_with_its_best_iteration(kind: type[Any], boosting: str) -> None:
    forest = {"subsample": 0.7, "subsample_freq": 1} if boosting == "rf" else {}
    model = fitted(kind, CLASSES, n_estimators=20, boosting_type=boosting, **forest)
    # LightGBM drops the later iterations when training ends, unless it is told to keep the training booster.
    model.booster_.best_iteration = 7
    content = FORMATS["pickle"](model)
    assert read_estimator(content).iterations == 7
    np.testing.assert_array_equal(served(content), predicted(model))
    assert not np.array_equal(predicted(model), predicted(fitted(kind, CLASSES, boosting_type=boosting, **forest)))


@pytest.mark.parametrize("best", [-1, 0, None, 400])
def test_a_best_iteration_that_is_none_or_beyond_the_last_means_all(best: int | None) -> None:
    model = fitted()
    model.booster_.best_iteration = best
    np.testing.assert_array_equal(served(FORMATS["pickle"](model)), fitted().predict(cases()))


LABELS: dict[str, Any] = {
    "text": ["low", "mid", "hïgh \N{SNOWMAN}"],
    "objects": np.array(["low", "mid", "high"], object),
    "int64": [1, 5, -9],
    "int8": np.array([1, 5, 9], np.int8),
    "uint64": np.array([1, 5, 2**64 - 1], np.uint64),
    "big-endian": np.array([1, 5, 9], ">i4"),
    "float": [1.0, 2.0, 7.0],
    "float32": np.array([1, 2, 7], np.float32),
    "bool": [False, True],
    "object ints": np.array([4, 5, 6], object),
    "object mixture": np.array([False, 2, "three"], object),
    "object scalars": np.array([np.int64(4), np.float32(0.5), np.str_("a")], object),
}


def plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_every_type_are_read_from_every_format(name: str) -> None:
    model = labelled(LABELS[name] if not name.startswith("object ") else [0, 1, 2])
    if name.startswith("object "):  # scikit-learn fits no such labels any more, and once did
        model._classes = model._le.classes_ = LABELS[name]
    expected = [(type(label), label) for label in map(plain, model.classes_.tolist())]
    for stored in FORMATS.values():
        labels = read_estimator(stored(model)).labels
        assert labels is not None
        assert [(type(label), label) for label in labels] == expected


def test_a_model_of_a_custom_objective_has_no_labels() -> None:
    def objective(target: Any, score: Any) -> tuple[Any, Any]:
        return score - target, np.ones_like(score)

    for kind in (lgb.LGBMRegressor, lgb.LGBMClassifier):
        model = fitted(kind, (CLASSES > 0).astype(int), objective=objective)
        content = cloudpickle.dumps(model)
        assert read_estimator(content).labels is None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_array_equal(served(content), model.predict(cases(), raw_score=True))


class Renamed(lgb.LGBMClassifier):
    """A class that predicts as LightGBM's does; nothing in a pickle by name tells."""


def test_a_subclass_is_served_where_the_file_shows_that_it_predicts_alike() -> None:
    class Plain(Renamed):
        def fit(self, X: Any, y: Any, **options: Any) -> Any:
            return super().fit(X, y, **options)

    class Logarithmic(Plain):
        def predict(self, X: Any, **options: Any) -> Any:
            return np.expm1(super().predict(X, **options))

    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["x"]))
    try:
        plain, other = (cloudpickle.dumps(fitted(kind, CLASSES), protocol=4) for kind in (Plain, Logarithmic))
    finally:
        cloudpickle.unregister_pickle_by_value(__import__(__name__, fromlist=["x"]))
    assert read_estimator(plain).labels == (0, 1, 2)
    assert "a Python object that computes its predictions with a LightGBM booster at its attribute _Booster" in refusal(
        other
    )
    assert "Renamed, a Python object that computes" in refusal(FORMATS["pickle"](fitted(Renamed, CLASSES)))


def test_dask_classes_are_served_by_their_name() -> None:
    content = FORMATS["pickle-2"](fitted())
    moved = content.replace(b"clightgbm.sklearn\nLGBMRegressor\n", b"clightgbm.dask\nDaskLGBMRegressor\n")
    assert moved != content
    assert read_estimator(moved).class_name == "lightgbm.dask.DaskLGBMRegressor"


def test_the_booster_of_lightgbm_3_is_found_under_its_old_name() -> None:
    content = FORMATS["pickle-2"](fitted())
    old = content.replace(b"\x07\x00\x00\x00_handle", b"\x06\x00\x00\x00handle")
    assert old != content
    assert read_estimator(old) == read_estimator(content)


def test_pandas_categories_kept_beside_the_text_are_joined_to_it() -> None:
    booster = fitted().booster_
    booster.pandas_categorical = [["a", "b"], [1, 2]]
    content = FORMATS["pickle-2"](booster)
    line = b'\npandas_categorical:[["a", "b"], [1, 2]]\n'
    assert line in content
    # LightGBM 2.0 wrote no such line. The text stays as long as it was, since its length is written before it.
    older = content.replace(line, b"\n" * len(line))
    text = read_estimator(older).text
    assert text.rstrip().endswith('pandas_categorical:[["a","b"],[1,2]]')


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lgb.LGBMClassifier(), "the model is a lightgbm.sklearn.LGBMClassifier that has not been fitted"),
        (
            labelled(["no", "yes"], pred_early_stop=True),
            "the model's parameter pred_early_stop ends predictions early, which is not served",
        ),
    ],
)
def test_an_object_that_predicts_otherwise_is_refused(model: Any, reason: str) -> None:
    for stored in (FORMATS["pickle"], FORMATS["skops"], of_joblib(3)):
        assert refusal(stored(model)) == reason
