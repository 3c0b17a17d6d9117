"""Small tables to train on: numbers, missing values, categories, and other types of columns."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

NUMBERS = ("income", "rooms", "age")
ROWS = 240
ASKED = 24

QUIET: dict[str, Any] = {"num_leaves": 6, "min_data_in_leaf": 4, "num_threads": 1, "verbosity": -1, "seed": 1,
                         "deterministic": True}  # fmt: skip
FEW: dict[str, Any] = {"n_estimators": 4, "num_leaves": 6, "min_child_samples": 4, "n_jobs": 1, "verbosity": -1,
                       "random_state": 1}  # fmt: skip


def numbers() -> pd.DataFrame:
    """Three columns of float64."""
    return pd.DataFrame(np.random.default_rng(19).normal(size=(ROWS, len(NUMBERS))), columns=list(NUMBERS))


def with_missing() -> pd.DataFrame:
    """`numbers`, of which a fifth is missing."""
    frame = numbers()
    return frame.mask(np.random.default_rng(20).random(frame.shape) < 0.2)


def price(frame: pd.DataFrame) -> "pd.Series[float]":
    """A number to learn."""
    return frame.iloc[:, 0].fillna(0.5) * 3 + frame.iloc[:, 1].fillna(-1.0) ** 2


def classes(frame: pd.DataFrame, *labels: Any) -> Any:
    """A label to learn, of these."""
    return np.array(labels)[pd.qcut(price(frame), len(labels), labels=False).to_numpy()]


def train(frame: Any, target: Any, rounds: int = 4, **options: Any) -> lgb.Booster:
    """A booster; an option that is an argument of `lightgbm.Dataset` goes there."""
    names = ("categorical_feature", "weight", "group")
    data = lgb.Dataset(frame, target, **{name: options.pop(name) for name in names if name in options})
    return lgb.train({"objective": "regression", **QUIET, **options}, data, num_boost_round=rounds)


def with_categories(values: list[Any], *, ordered: bool = False) -> tuple[pd.DataFrame, "pd.Series[float]"]:
    """A column `kind` of these categories before `numbers`, and a target that depends on both."""
    frame = numbers()
    drawn = np.random.default_rng(21).integers(0, len(values), ROWS)
    frame.insert(0, "kind", pd.Series(pd.Categorical.from_codes(drawn, categories=values, ordered=ordered)))
    return frame, price(frame.iloc[:, 1:]) + 2.0 * (drawn % 3)


def with_strangers(frame: pd.DataFrame, unseen: Any) -> pd.DataFrame:
    """Rows to ask with: the second has a value that is none of the categories, the third has none."""
    asked = frame.head(ASKED).copy()
    kinds = asked["kind"].astype(object)
    kinds.iloc[1], kinds.iloc[2] = unseen, None
    asked["kind"] = pd.Categorical(kinds)
    return asked
