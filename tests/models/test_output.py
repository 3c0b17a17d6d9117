"""Meaning of predictions by objective, as LightGBM writes it, and the outputs that can be given."""

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from app.models.predictions.output import meaning, outputs, usable_labels
from tests.models.support import PARAMETERS, tiny_rows

Array = NDArray[np.float64]

OBJECTIVES = {
    "regression": "value",
    "regression_l1": "value",
    "huber": "value",
    "poisson": "value",
    "quantile": "value",
    "gamma": "value",
    "tweedie": "value",
    "cross_entropy_lambda": "value",
    "cross_entropy": "probability",
    "binary": "probability",
    "multiclass": "probabilities",
    "multiclassova": "probabilities",
    "lambdarank": "score",
    "rank_xendcg": "score",
    "of the user's own": "raw_score",
}


def squared(prediction: Array, data: lgb.Dataset) -> tuple[Array, Array]:
    """Gradients of the squared error."""
    return prediction - np.asarray(data.get_label()), np.ones(len(prediction))


@pytest.mark.parametrize(("objective", "expected"), OBJECTIVES.items())
def test_the_meaning_is_read_from_the_boosters_text(objective: str, expected: str) -> None:
    changes: dict[str, object] = {"num_class": 3} if objective.startswith("multiclass") else {}
    target = tiny_rows()[:, 2] % 2 + (objective == "gamma")
    data = lgb.Dataset(tiny_rows(), target, group=[len(target)] if expected == "score" else None)
    given = squared if expected == "raw_score" else objective
    text = lgb.train(PARAMETERS | changes | {"objective": given}, data, num_boost_round=1).model_to_string()
    lines = [line for line in text.split("Tree=")[0].splitlines() if line.startswith("objective=")]
    assert meaning(lines[0].removeprefix("objective=") if lines else "") == expected


def test_outputs_follow_from_objective_and_labels() -> None:
    assert outputs("regression", None) == outputs("cross_entropy", None) == ("auto", "raw")
    for objective in ("binary sigmoid:1", "multiclass num_class:3", "multiclassova num_class:3 sigmoid:1"):
        assert outputs(objective, None) == ("auto", "probabilities", "raw")
        assert outputs(objective, ("a", "b")) == ("auto", "labels", "probabilities", "raw")


def test_an_objective_of_the_users_own_gives_no_labels() -> None:
    assert usable_labels("", ("a", "b")) is None
    assert usable_labels("custom", ("a", "b")) is None
    assert usable_labels("binary sigmoid:1", ("a", "b")) == ("a", "b")
    assert usable_labels("binary sigmoid:1", None) is None
