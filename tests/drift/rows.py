"""Rows and models for the tests of drift: a feature of numbers, one of categories, and one that is constant."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.drift.profile import Profile, make_profile
from app.drift.tracker import Options, Tracker, WatchedModel
from app.feature import Feature

Array = NDArray[np.float64]

SIZE = Feature(name="size")
COLOUR = Feature(name="colour", kind="category", categories=("red", "green", "blue"))
ALWAYS = Feature(name="always")
FEATURES = (SIZE, COLOUR, ALWAYS)
DIGEST = "ab" * 32


def rows_of(count: int, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    rows = np.full((count, 3), 4.0)
    rows[:, 0] = random.lognormal(size=count)
    rows[:, 1] = random.choice(3, count, p=(0.6, 0.3, 0.1))
    return rows


def predictions_of(rows: Array) -> Array:
    return rows[:, 0] * 2


def profile_of(rows: Array, source: Any = "training") -> Profile:
    return make_profile(FEATURES, rows, predictions_of(rows), source)


def model_of(profile: Profile | None, version: str = "1") -> WatchedModel:
    names = tuple(feature.name for feature in FEATURES)
    return WatchedModel(
        name="houses", version=version, digest=DIGEST, features=FEATURES, outputs=1, profile=profile, names=names
    )


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tracker_of(profile: Profile | None, clock: Clock | None = None, baseline_rows: int = 0) -> Tracker:
    return Tracker(model_of(profile), Options(3600, baseline_rows, clock or Clock()))
