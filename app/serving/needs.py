"""What is computed for the rows of a request beside their predictions."""

from typing import NamedTuple

from kernels.explainer import Space


class Needs(NamedTuple):
    """What is computed beside the predictions.

    Attributes:
        raw_score: Whether the raw scores are.
        space: Features by which the predictions are explained, those that callers send or those that a plan makes of
            them; None for no explanation.
        leaves: Whether the leaf that each row reaches in each tree is found.
    """

    raw_score: bool = False
    space: Space | None = None
    leaves: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether neither explanations nor leaves are."""
        return self.space is None and not self.leaves


PLAIN = Needs()
"""Predictions alone."""
