"""The LightGBM model inside an object: found where there is one, refused by what the object is."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.models.convert.refused import ConversionRefused
from app.models.convert.wrapped import find_model
from tests.models.convert.pipelines import PARAMETERS, fitted, table, target

ROWS = table()[["income", "level"]]
TARGET = target(table())
GRID = {"lgbmregressor__num_leaves": [3, 7]}


class Holder:
    """An object as somebody writes it."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)
        self.itself = self


def regressor() -> Any:
    return lgb.LGBMRegressor(**PARAMETERS).fit(ROWS, TARGET)


def test_a_model_and_its_booster_are_found_as_they_are() -> None:
    model = regressor()
    for thing in (model, model.booster_):
        wrapped = find_model(thing)
        assert (wrapped.path, wrapped.model, wrapped.steps, wrapped.outer) == ("", thing, (), thing)
        assert wrapped.booster is model.booster_


def test_a_search_over_a_pipeline_gives_the_best_one() -> None:
    search = GridSearchCV(make_pipeline(StandardScaler(), lgb.LGBMRegressor(**PARAMETERS)), GRID, cv=2)
    wrapped = find_model(search.fit(ROWS, TARGET))
    assert wrapped.path == "best_estimator_ → steps[1] 'lgbmregressor'"
    assert [step.path for step in wrapped.steps] == ["best_estimator_ → steps[0] 'standardscaler'"]
    assert wrapped.model is search.best_estimator_[-1]
    assert wrapped.outer is search


def test_a_model_deep_in_somebodys_object_is_found_once() -> None:
    model = regressor()
    wrapped = find_model(Holder(unfitted=lgb.LGBMRegressor(), parts={"main": [model, model.booster_]}, note="text"))
    assert wrapped.path == "parts → 'main'[0]"
    assert wrapped.model is model


def test_a_pipeline_in_somebodys_object_keeps_its_steps() -> None:
    pipeline = fitted(StandardScaler(), rows=ROWS)
    wrapped = find_model(Holder(inner=Holder(pipeline=pipeline)))
    assert wrapped.path == "inner → pipeline → steps[1] 'lgbmregressor'"
    assert (len(wrapped.steps), wrapped.outer) == (1, pipeline)


def test_labels_are_those_of_a_classifier() -> None:
    labels = np.where(np.median(TARGET) < TARGET, "high", "low")
    assert find_model(lgb.LGBMClassifier(**PARAMETERS).fit(ROWS, labels)).labels == ("high", "low")
    assert find_model(lgb.LGBMClassifier(**PARAMETERS).fit(ROWS, labels == "high")).labels == (False, True)
    assert find_model(regressor()).labels is None


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (
            lambda: CalibratedClassifierCV(lgb.LGBMClassifier(**PARAMETERS), cv=2).fit(ROWS, TARGET > 2),
            r"a CalibratedClassifierCV, and it corrects the probabilities .* LightGBM models in it: 2, at calibrated_",
        ),
        (
            lambda: VotingRegressor([("a", lgb.LGBMRegressor(**PARAMETERS))]).fit(ROWS, TARGET),
            r"a VotingRegressor, and it averages several models",
        ),
        (
            lambda: TransformedTargetRegressor(
                lgb.LGBMRegressor(**PARAMETERS), func=np.log1p, inverse_func=np.expm1
            ).fit(ROWS, np.abs(TARGET)),
            r"a TransformedTargetRegressor, and it transforms what the model predicts",
        ),
        (lambda: Holder(a=regressor(), b=[regressor()]), r"a Holder with 2 LightGBM models, and not one: a, b\[0\]"),
        (
            lambda: LinearRegression().fit(ROWS, TARGET),
            "a LinearRegression, in which there is no fitted",
        ),
        (lambda: lgb.LGBMRegressor(), "a LGBMRegressor, in which there is no fitted LightGBM model"),
    ],
)
def test_other_objects_are_refused_by_what_they_are(thing: Any, why: str) -> None:
    with pytest.raises(ConversionRefused, match=why):
        find_model(thing())


def test_a_compound_in_somebodys_object_is_refused_with_its_place() -> None:
    voting = VotingRegressor([("a", lgb.LGBMRegressor(**PARAMETERS))]).fit(ROWS, TARGET)
    with pytest.raises(ConversionRefused, match="a VotingRegressor at inner, and it averages"):
        find_model(Holder(inner=voting))
