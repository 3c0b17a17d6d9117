"""Profiles: what they say of rows, their file, and what is refused."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from app.drift.profile import MAX_CATEGORIES, MAX_FEATURES, MAX_OUTPUTS, Profile, ProfileError, make_profile
from app.feature import Feature
from tests.drift.rows import FEATURES, profile_of, rows_of

PROFILE = profile_of(rows_of(1000))


def test_a_profile_comes_back_from_its_file() -> None:
    assert Profile.from_json(PROFILE.to_json()) == PROFILE
    PROFILE.check(FEATURES, 1)
    assert (PROFILE.rows, PROFILE.prediction_rows, len(PROFILE.prediction)) == (1000, 1000, 1)
    colour = PROFILE.categories["colour"]
    assert (colour.values, colour.other) == (("red", "green", "blue"), 0.0)
    assert list(colour.shares) == sorted(colour.shares, reverse=True)


def test_what_is_watched_is_bounded() -> None:
    features = tuple(Feature(name=f"f{index}") for index in range(MAX_FEATURES + 5))
    rows = np.random.default_rng(0).normal(size=(40, len(features)))
    made = make_profile(features, rows, rows[:, : MAX_OUTPUTS + 3], "profile")
    assert list(made.numbers) == [feature.name for feature in features[:MAX_FEATURES]]
    assert len(made.prediction) == MAX_OUTPUTS
    made.check(features, MAX_OUTPUTS + 3)
    assert list(make_profile(features, rows, rows[:, 0], "profile", ("f54", "f2")).numbers) == ["f2", "f54"]


def test_rare_categories_are_told_together() -> None:
    feature = Feature(name="town", kind="category", categories=tuple(range(30)))
    codes = np.array([*np.repeat(np.arange(30), np.arange(30, 0, -1)), math.nan], dtype=float)
    town = make_profile((feature,), codes[:, None], np.zeros(1), "profile").categories["town"]
    assert town.values == tuple(range(MAX_CATEGORIES))
    assert town.missing == pytest.approx(1 / len(codes))
    assert town.other == pytest.approx(sum(range(1, 11)) / 465)


def changed(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(PROFILE) | fields)


def with_size(**fields: Any) -> bytes:
    size = msgspec.to_builtins(PROFILE.numbers["size"]) | fields
    return changed(numbers={"size": size})


FEW = {"edges": [0, 1, 2], "shares": [0.5, 0.5], "missing": 0}
MANY = {"edges": list(range(23)), "shares": [0.0] * 22, "missing": 0}

REFUSED: list[tuple[bytes, str]] = [
    (b"{", "is not valid: Input data was truncated"),
    (changed(source="hearsay"), "is not valid: Invalid enum value 'hearsay'"),
    (changed(rows=0), "is not valid: Expected `int` >= 1 - at `$.rows`"),
    (with_size(edges=[0, 1]), "has 2 edges and 20 bins for the feature 'size'"),
    (with_size(**FEW | {"edges": [0, 2, 1]}), "has edges that do not ascend for the feature 'size'"),
    (with_size(**FEW | {"edges": [1, 1, 2]}), "has edges that do not ascend for the feature 'size'"),
    (with_size(**FEW | {"shares": [0.5, 1.5]}), "has a share that is not from 0 to 1 for the feature 'size'"),
    (with_size(**FEW | {"missing": 2}), "has a share that is not from 0 to 1 for the feature 'size'"),
    (with_size(**FEW | {"shares": [0.5, 0.4]}), "has shares that do not sum to 1 for the feature 'size'"),
    (with_size(**MANY), "has 22 bins for the feature 'size', and at most 21 are read"),
    (changed(prediction=[FEW | {"edges": []}]), "has 0 edges and 2 bins for output 0"),
    (
        changed(categories={"colour": {"values": ["red"], "shares": [], "other": 0, "missing": 0}}),
        "has 1 categories and 0 shares for the feature 'colour', and at most 20 are read",
    ),
    (
        changed(categories={"colour": {"values": ["red", "red"], "shares": [0.5, 0.5], "other": 0, "missing": 0}}),
        "has a category twice for the feature 'colour'",
    ),
    (changed(numbers={f"f{index}": FEW for index in range(50)}), "has more than 50 features"),
]


@pytest.mark.parametrize(("content", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_a_bad_file_is_refused_with_what_is_wrong(content: bytes, reason: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.from_json(content)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda features: features[1:], "has the feature 'size', which the model does not have"),
        (
            lambda features: (msgspec.structs.replace(features[0], kind="category", categories=(1,)), *features[1:]),
            "does not fit the feature 'size', which is a category of the model",
        ),
        (
            lambda features: (*features[:1], Feature(name="colour"), *features[2:]),
            "does not fit the feature 'colour', which is no category of the model",
        ),
        (
            lambda features: (*features[:1], msgspec.structs.replace(features[1], categories=("red",)), *features[2:]),
            "has the category 'green' of the feature 'colour', which the model does not have",
        ),
    ],
)
def test_the_profile_of_another_model_is_refused(
    change: Callable[[tuple[Feature, ...]], tuple[Feature, ...]], reason: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        PROFILE.check(change(FEATURES), 1)
    assert str(caught.value) == reason


def test_a_profile_of_fewer_outputs_is_refused() -> None:
    with pytest.raises(ProfileError, match="has 1 outputs, and the model has 3"):
        PROFILE.check(FEATURES, 3)
