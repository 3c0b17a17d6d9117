"""Prediction intervals by normalised split conformal prediction: the stored calibration and its use.

A second forest predicts the absolute error of the first, called the difficulty of a row. Calibration rows, on which
neither forest was fitted, give n scores |target - prediction| / difficulty. The interval of level p is
prediction ± q(p) * difficulty, where q(p) is the ceil((n + 1) p)-th smallest score. For rows exchangeable with the
calibration rows it contains the true value with probability at least p (J. Lei, M. G'Sell, A. Rinaldo,
R. J. Tibshirani and L. Wasserman, Distribution-Free Predictive Inference for Regression, JASA 113, 2018, sections 2.2
and 5.2).
"""

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import FieldError, InvalidInput
from app.models.refusal import ModelRefused

Level = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Score = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Quantile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score q(level): a share `level` of the calibration rows has a score of at most this."""

    level: Level
    score: Score


class Intervals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Calibration of the intervals of a model.

    Attributes:
        quantiles: One quantile for each level of the model, ascending, at most 100.
        default_level: Level for requests that name none; one of the model's levels.
        least_difficulty: Floor of the difficulty, in the target's unit, since a forest can predict an absolute error
            of zero or less.
        calibration_rows: Number of calibration rows.
    """

    quantiles: Annotated[tuple[Quantile, ...], msgspec.Meta(max_length=100)]
    default_level: Level = 0.9
    least_difficulty: Positive
    calibration_rows: Count

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels that a request can name, ascending."""
        return tuple(quantile.level for quantile in self.quantiles)

    @property
    def default(self) -> tuple[float, float, float]:
        """The default level, its score q, and the least difficulty."""
        return self.default_level, self._score(self.default_level), self.least_difficulty

    @classmethod
    def from_json(cls, text: bytes) -> "Intervals":
        """Read a calibration.

        Raises:
            ModelRefused: The text is no calibration.
        """
        try:
            intervals = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ModelRefused(f"the model's intervals cannot be read: {error}") from error
        if list(intervals.levels) != sorted(set(intervals.levels)) or intervals.default_level not in intervals.levels:
            raise ModelRefused("the model's intervals must have ascending levels, and the default level among them")
        return intervals

    def half_width(self, difficulty: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Half the width of the interval of each row.

        Args:
            difficulty: float64[B].
            level: One of `levels`.

        Returns:
            float64[B], in the target's unit; not finite where the difficulty is not finite or too large.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            return self._score(level) * np.maximum(difficulty, self.least_difficulty)

    def half_width_of_one(self, difficulty: float, level: float) -> float:
        """Half the width for one row, in a fraction of the time of `half_width`."""
        # A NaN stays NaN, as with NumPy's maximum.
        return self._score(level) * (self.least_difficulty if difficulty < self.least_difficulty else difficulty)

    def _score(self, level: float) -> float:
        for quantile in self.quantiles:
            if quantile.level == level:
                return quantile.score
        raise KeyError(level)


def requested_level(intervals: Intervals | None, given: list[str] | None) -> float | None:
    """The level of the intervals that a request is answered with.

    Args:
        intervals: The model's.
        given: Values of the query parameter `interval`, None where it was not given.

    Returns:
        The level that was asked for, else the default one; None for a model that has no intervals.

    Raises:
        InvalidInput: The parameter appears more than once, or is none of the model's levels.
    """
    if given is None:
        return intervals and intervals.default_level
    if intervals is None:
        raise _refusal("cannot be asked for: the model has no intervals")
    levels = ", ".join(map(str, intervals.levels))
    if len(given) != 1:
        raise _refusal(f"must be given once; the model's levels are {levels}")
    try:
        level = msgspec.convert(given[0], float, strict=False)
    except msgspec.ValidationError:
        raise _refusal(f"must be a number, one of the model's levels {levels}") from None
    if level not in intervals.levels:
        raise _refusal(f"must be one of the model's levels {levels}")
    return level


def _refusal(message: str) -> InvalidInput:
    return InvalidInput("The query is not valid.", (FieldError("interval", message),))
