"""Which output of a booster a model's answers are, to the last bit."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.models.convert.comparison import BoosterOutputs, Difference, agreement

P = np.array([0.25, 0.5, 0.75])
BINARY = BoosterOutputs(predicted=P, raw=np.log(P / (1 - P)), labels=("no", "yes"))
NUMBERED = BoosterOutputs(predicted=P, raw=np.log(P / (1 - P)))
CLASSES = BoosterOutputs(predicted=np.eye(3) * 0.4 + 0.2, raw=np.eye(3), labels=(7, 8, 9))
NUMBERS = BoosterOutputs(predicted=np.array([3.0, np.nan, -1.0]), raw=np.array([1.0, np.nan, 2.0]))


@pytest.mark.parametrize(
    ("answers", "outputs", "name"),
    [
        (np.array(["no", "no", "yes"]), BINARY, "class labels"),
        (["no", "no", "yes"], BINARY, "class labels"),
        (P, BINARY, "predictions"),
        (pd.DataFrame({"p": P}), BINARY, "predictions"),
        (BINARY.raw, BINARY, "raw scores"),
        (np.column_stack([1 - P, P]), BINARY, "probabilities of both classes"),
        (1 - P, BINARY, "probabilities of the first class"),
        ([0, 0, 1], NUMBERED, "class numbers"),
        (np.array([False, False, True]), NUMBERED, "class numbers"),
        ([7, 8, 9], CLASSES, "class labels"),
        (pd.DataFrame(CLASSES.predicted), CLASSES, "predictions"),
        (NUMBERS.predicted[:, None], NUMBERS, "predictions"),
        (NUMBERS.raw, NUMBERS, "raw scores"),
    ],
)
def test_an_equal_output_is_named(answers: Any, outputs: BoosterOutputs, name: str) -> None:
    assert agreement(answers, outputs) == name


@pytest.mark.parametrize(
    ("answers", "outputs", "text"),
    [
        (np.nextafter(P, 1), NUMBERED, "the largest difference from the booster's predictions is 1.11022e-16"),
        (np.array(["no", "yes", "yes"]), BINARY, "1 of 3 labels differ"),
        ([7, 7, 7], CLASSES, "2 of 3 labels differ"),
        ([3.0, 4.0, -1.0], NUMBERS, "the largest difference from the booster's predictions is inf"),
        (np.zeros((3, 5)), CLASSES, "the model answers with shape (3, 5), the booster with (3, 3)"),
        ("nothing", NUMBERS, "the model answers with str, which is neither numbers nor labels"),
        ([[1], [1, 2]], NUMBERS, "the model answers with list, which is neither numbers nor labels"),
    ],
)
def test_a_difference_is_told_in_size(answers: Any, outputs: BoosterOutputs, text: str) -> None:
    assert agreement(answers, outputs) == Difference(text)
