"""Contents of a model card: its JSON, and the functions that compute them."""

from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pytest

from app import __version__
from app.training.card.contents import Card, Importance, UnseenArea, Versions, card_json, folds_of, importance_of
from tests.training.card.examples import FULL, MINIMAL, UGLY

UGLY_NAMES = msgspec.structs.replace(FULL, title=UGLY, metrics={UGLY: 7.5})


@pytest.mark.parametrize("card", [MINIMAL, FULL, UGLY_NAMES], ids=["minimal", "full", "ugly names"])
def test_the_json_reads_back_equal(card: Card) -> None:
    assert msgspec.json.decode(card_json(card), type=Card) == card


def test_numpy_scalars_are_written_as_numbers() -> None:
    card = msgspec.structs.replace(MINIMAL, metrics={"test_rmse": np.float64(0.1)}, outside_distance=np.float32(0.5))
    assert msgspec.json.decode(card_json(card), type=Card) == card


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"metrics": {"test_rmse": 0.5, "test_r2": np.nan}}, "card.metrics.test_r2"),
        ({"outside_distance": np.inf}, "card.outside_distance"),
        ({"unseen_areas": (UnseenArea(repetition=1, rows=2, rmse=-np.inf),)}, r"card.unseen_areas\[0\].rmse"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_name(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is not a finite number$"):
        card_json(msgspec.structs.replace(FULL, **changes))


def test_folds_are_summed_up_with_the_sample_standard_deviation() -> None:
    folds = folds_of([1.0, 2.0, 6.0])
    assert (folds.rmse, folds.mean) == ((1.0, 2.0, 6.0), 3.0)
    assert folds.standard_deviation == pytest.approx(7**0.5)
    with pytest.raises(ValueError, match="two folds or more, got 1"):
        folds_of([1.0])


def booster_text(rounds: int) -> str:
    features = np.random.default_rng(1).normal(size=(300, 3))
    parameters = {"objective": "regression", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    data = lgb.Dataset(features, 3 * features[:, 2] + features[:, 0], feature_name=["a", "b|", "c"])
    return lgb.train(parameters, data, num_boost_round=rounds).model_to_string()


def test_importance_is_sorted_by_share_of_gain() -> None:
    importance = importance_of(booster_text(20))
    booster = lgb.Booster(model_str=booster_text(20))
    gain = dict(zip(booster.feature_name(), booster.feature_importance("gain"), strict=True))
    splits = dict(zip(booster.feature_name(), booster.feature_importance("split"), strict=True))
    assert [item.feature for item in importance] == ["c", "a", "b|"]
    for item in importance:
        assert item.gain == pytest.approx(gain[item.feature] / sum(gain.values()))
        assert item.splits == splits[item.feature] > 0
    assert sum(item.gain for item in importance) == pytest.approx(1)


def test_the_importance_of_a_forest_without_splits_is_zero() -> None:
    data = lgb.Dataset(np.zeros((30, 2)), np.ones(30), feature_name=["a", "b"], params={"verbosity": -1})
    text = lgb.train({"verbosity": -1}, data, num_boost_round=1).model_to_string()
    assert importance_of(text) == tuple(Importance(feature=name, gain=0.0, splits=0) for name in ("a", "b"))


def test_the_versions_are_those_installed() -> None:
    installed = Versions(lightgbm=lgb.__version__, numpy=np.__version__, madrone=__version__)
    assert Versions.installed() == installed
