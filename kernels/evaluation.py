"""The result of an engine for a batch or one row."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Outcome
from kernels.explainer import Explanation


class Evaluation(NamedTuple):
    """The engine's result for a batch.

    Attributes:
        prediction: float64[B], or float64[B, K] for K > 1 outputs.
        difficulty: float64[B], expected absolute error; None without a second forest.
        distance: float32[B], distance to the nearest stored row in the plan's units; None where the plan has no
            `outside_distance`.
        raw_score: The sums of the leaf values, without the objective's transformation, in the shape of `prediction`;
            None where nobody asked for them.
        explanation: What each feature adds to the raw scores; None where nobody asked for it.
        leaves: int32[B, T], leaf of each tree that a row comes to; None where nobody asked for them.
    """

    prediction: NDArray[np.float64]
    difficulty: NDArray[np.float64] | None = None
    distance: NDArray[np.float32] | None = None
    raw_score: NDArray[np.float64] | None = None
    explanation: Explanation | None = None
    leaves: NDArray[np.int32] | None = None

    def of(self, rows: NDArray[np.bool_]) -> "Evaluation":
        """The evaluation of those rows of the batch that a mask, bool[B], has."""
        *arrays, explanation, leaves = self
        if explanation is not None:
            explanation = explanation._replace(contributions=explanation.contributions[rows])
        arrays = (None if array is None else array[rows] for array in arrays)
        return Evaluation(*arrays, explanation, None if leaves is None else leaves[rows])  # pyright: ignore[reportArgumentType]

    def single(self) -> "SingleEvaluation":
        """The evaluation of a batch of one row, in plain numbers."""
        return SingleEvaluation(
            self.prediction[0].tolist(),
            None if self.difficulty is None else self.difficulty.item(),
            None if self.distance is None else self.distance.item(),
            None if self.raw_score is None else self.raw_score[0].tolist(),
        )


Outputs = float | list[float]
"""The outputs for one row: a number, or K > 1 numbers."""


class SingleEvaluation(NamedTuple):
    """The engine's result for one row, in plain numbers; see `Evaluation`."""

    prediction: Outputs
    difficulty: float | None = None
    distance: float | None = None
    raw_score: Outputs | None = None

    def batch(self) -> Evaluation:
        """The evaluation of a batch of this row."""
        return Evaluation(
            np.array([self.prediction]),
            None if self.difficulty is None else np.array([self.difficulty]),
            None if self.distance is None else np.array([self.distance], dtype=np.float32),
            None if self.raw_score is None else np.array([self.raw_score]),
        )


def evaluation_of(outcome: Outcome) -> Evaluation:
    """The evaluation of a backend's outcome."""
    prediction, *difficulty = outcome.predictions
    return Evaluation(prediction, difficulty[0] if difficulty else None, outcome.distance)
