"""The features of a wide model that are watched: those with the largest gain, as LightGBM sums it."""

import lightgbm as lgb
import numpy as np
import pytest

from app.drift.profile import MAX_FEATURES
from app.drift.watched import watched_features
from app.feature import Feature
from tests.models.support import PARAMETERS

WIDTH = 70
FEATURES = tuple(Feature(name=f"f{place}") for place in range(WIDTH))


@pytest.fixture(scope="module")
def booster() -> lgb.Booster:
    rows = np.random.default_rng(0).normal(size=(400, WIDTH))
    target = rows @ np.linspace(0, 1, WIDTH)
    return lgb.train(PARAMETERS | {"num_leaves": 31}, lgb.Dataset(rows, target), num_boost_round=30)


def test_the_features_of_the_largest_gain_are_watched(booster: lgb.Booster) -> None:
    gains = booster.feature_importance("gain")
    largest = set(np.argsort(-gains, kind="stable")[:MAX_FEATURES].tolist())
    watched = watched_features(FEATURES, booster.model_to_string(), planned=False)
    assert watched == tuple(f"f{place}" for place in sorted(largest))


def test_of_a_model_with_a_plan_the_first_are_watched(booster: lgb.Booster) -> None:
    watched = watched_features(FEATURES, booster.model_to_string(), planned=True)
    assert watched == tuple(feature.name for feature in FEATURES[:MAX_FEATURES])


def test_all_features_of_a_narrow_model_are_watched(booster: lgb.Booster) -> None:
    assert watched_features(FEATURES[:3], "", planned=False) == ("f0", "f1", "f2")
