"""Objects around LightGBM models: each refusal says what it is, and where the boosters sit."""

import warnings
from typing import Any

import lightgbm as lgb
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from app.models.objects import holder
from app.models.objects.description import Described, Mapping, Named
from app.models.objects.holder import places
from tests.models.objects.support import CLASSES, FORMATS, PARAMETERS, ROWS, fitted, of_joblib, refusal

WAY_OUT = (
    ", and such objects are not run. Convert it where its packages are installed: "
    "`madrone convert MODEL_URI --register NAME`. If its booster alone predicts what is wanted, log that, or put its "
    "text (booster_.save_model) beside it"
)
CLASSIFIER, REGRESSOR = "lightgbm.sklearn.LGBMClassifier", "lightgbm.sklearn.LGBMRegressor"


def steps(model: Any) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("model", model)])


def classifier() -> lgb.LGBMClassifier:
    return lgb.LGBMClassifier(**PARAMETERS)


def regressor() -> lgb.LGBMRegressor:
    return lgb.LGBMRegressor(**PARAMETERS)


HOLDERS: dict[str, tuple[Any, str]] = {
    "sklearn.pipeline.Pipeline": (
        lambda: steps(classifier()),
        f"a LightGBM booster at steps[1] 'model' ({CLASSIFIER})",
    ),
    "sklearn.model_selection._search.GridSearchCV": (
        lambda: GridSearchCV(steps(classifier()), {"model__num_leaves": [3, 4]}, cv=2),
        f"a LightGBM booster at best_estimator_ → steps[1] 'model' ({CLASSIFIER})",
    ),
    "sklearn.model_selection._search.RandomizedSearchCV": (
        lambda: RandomizedSearchCV(regressor(), {"num_leaves": [3, 4]}, cv=2, n_iter=1),
        f"a LightGBM booster at best_estimator_ ({REGRESSOR})",
    ),
    "sklearn.calibration.CalibratedClassifierCV": (
        lambda: CalibratedClassifierCV(classifier(), cv=2),
        f"2 LightGBM boosters at calibrated_classifiers_[0] → estimator ({CLASSIFIER}), "
        f"calibrated_classifiers_[1] → estimator ({CLASSIFIER})",
    ),
    "sklearn.ensemble._voting.VotingClassifier": (
        lambda: VotingClassifier([("one", classifier()), ("two", LogisticRegression())]),
        f"a LightGBM booster at estimators_[0] ({CLASSIFIER})",
    ),
    "sklearn.ensemble._voting.VotingRegressor": (
        lambda: VotingRegressor([(str(index), regressor()) for index in range(5)]),
        f"5 LightGBM boosters at estimators_[0] ({REGRESSOR}), estimators_[1] ({REGRESSOR}), estimators_[2] "
        f"({REGRESSOR}) and 2 more places",
    ),
    "sklearn.ensemble._stacking.StackingRegressor": (
        lambda: StackingRegressor([("one", LinearRegression())], regressor(), cv=2),
        f"a LightGBM booster at final_estimator_ ({REGRESSOR})",
    ),
    "sklearn.compose._target.TransformedTargetRegressor": (
        lambda: TransformedTargetRegressor(regressor(), transformer=StandardScaler()),
        f"a LightGBM booster at regressor_ ({REGRESSOR})",
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_the_class_and_the_place_of_the_booster_are_named(name: str) -> None:
    make, where = HOLDERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make().fit(ROWS, CLASSES)
    expected = f"the model is a {name}, a Python object that computes its predictions with {where}{WAY_OUT}"
    for stored in (FORMATS["pickle"], FORMATS["cloudpickle"], FORMATS["skops"], of_joblib(3)):
        assert refusal(stored(model)) == expected


def test_several_targets_are_several_boosters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MultiOutputRegressor(regressor()).fit(ROWS, ROWS[:, :2])
    assert "2 LightGBM boosters at estimators_[0]" in refusal(FORMATS["pickle"](model))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (StandardScaler().fit(ROWS), "sklearn.preprocessing._data.StandardScaler"),
        (steps(lgb.LGBMRegressor()), "sklearn.pipeline.Pipeline"),
        ({"a": 1}, "builtins.dict"),
        ([1], "builtins.list"),
        ("text", "builtins.str"),
    ],
)
def test_an_object_without_a_booster_is_told_so(model: Any, name: str) -> None:
    expected = f"the model is a {name}, a Python object in which no fitted LightGBM booster was found"
    assert refusal(FORMATS["pickle"](model)) == expected


def test_models_in_dictionaries_and_lists_are_found() -> None:
    model = fitted()
    reason = refusal(FORMATS["pickle"]({"models": [None, (model,)], "again": model}))
    assert f"with a LightGBM booster at ['again'] ({REGRESSOR}), and" in reason
    for key, path in ((5, "[5]"), ("x" * 99, f"['{'x' * 40}']"), ((1,), "[…]"), (2**80, "[…]")):
        assert f" at {path}[0] (lightgbm.basic.Booster), and" in refusal(FORMATS["pickle"]({key: [model.booster_]}))


def test_a_long_path_is_cut() -> None:
    thing: Any = Described(Named("lightgbm.basic.Booster"), state=Mapping([("_handle", "tree")]))
    for _ in range(5_000):
        thing = Described(Named("m.C"), state=Mapping([("next", thing)]))
    (place,) = places(thing)
    assert place.path.startswith("… → next → next")
    assert len(place.path) < 220


def test_the_number_of_parts_looked_into_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = Described(Named("lightgbm.basic.Booster"), state=Mapping([("_handle", "tree")]))
    thing = [*([] for _ in range(10)), booster]
    monkeypatch.setattr(holder, "MAX_PARTS", 13)
    assert len(places(thing)) == 1
    monkeypatch.setattr(holder, "MAX_PARTS", 12)
    assert places(thing) == []
