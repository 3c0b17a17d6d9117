"""Rows that a booster was fitted on are told from others, where it has begun to learn them by heart."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.calibration.optimism import SUSPICIOUS, fitted_share
from tests.calibration.made import TARGET, boosted, frame
from tests.models.support import NAMES


def share(text: str, rows: pd.DataFrame) -> float | None:
    return fitted_share(text, rows[list(NAMES)].to_numpy(), rows[TARGET].to_numpy(float))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"learning_rate": 0.05},
        {"lambda_l2": 5.0},
        {"objective": "binary"},
    ],
    ids=str,
)
def test_training_rows_are_suspicious_and_others_are_not(changes: dict[str, Any]) -> None:
    kind = "class" if "objective" in changes else "number"
    rows = frame(1, kind=kind)
    text = boosted(rows, rounds=150, **changes).model_to_string()
    own, part, other = share(text, rows), share(text, rows[::3]), share(text, frame(2, kind=kind))
    assert own is not None
    assert part is not None
    assert other is not None
    assert min(own, part) > SUSPICIOUS > other + 0.1


def test_without_regularisation_the_share_of_training_rows_is_one() -> None:
    rows = frame(1)
    for kind, objective in (("number", "regression"), ("class", "binary")):
        rows = frame(1, kind=kind)
        text = boosted(rows, objective=objective).model_to_string()
        assert share(text, rows) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "regression_l1"},
        {"objective": "binary", "sigmoid": 2.0},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"boosting": "dart", "drop_rate": 0.9},
        {"reg_sqrt": True},
    ],
    ids=str,
)
def test_boosters_that_the_formula_does_not_fit_have_none(changes: dict[str, Any]) -> None:
    rows = frame(1, kind="class" if changes.get("objective") == "binary" else "number")
    if changes.get("reg_sqrt"):
        rows[TARGET] = np.abs(rows[TARGET])
    assert share(boosted(rows, rounds=5, **changes).model_to_string(), rows) is None


def test_a_booster_of_one_tree_has_none() -> None:
    rows = frame(1)
    assert share(boosted(rows, rounds=1).model_to_string(), rows) is None
