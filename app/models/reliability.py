"""How reliable a binary classifier's probabilities were on rows that it was not fitted on, and thresholds for them.

A stored description, which changes no prediction: `/predict/model/info` shows it.
"""

from typing import Annotated, Literal

import msgspec

from app.models.refusal import ModelRefused

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Goal = Literal["f1", "balanced_accuracy", "precision", "recall"]

MAX_BINS, MAX_THRESHOLDS = 100, 100


class Bin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows whose predictions are between two bounds.

    Attributes:
        low: Least prediction.
        high: Bound that the predictions are below; the last bin has those equal to it, too.
        rows: Number of rows.
        predicted: Their mean prediction; 0 without rows.
        actual: Share of them that are of the second class; 0 without rows.
    """

    low: Share
    high: Share
    rows: Count
    predicted: Share
    actual: Share


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A threshold: a row counts as of the second class if its prediction is at least this.

    The figures are of rows that the threshold was not chosen on.

    Attributes:
        goal: What the threshold was chosen for: the largest F1 or balanced accuracy, or to reach a precision or recall.
        asked: The precision or recall to reach; None for the other goals.
        threshold: The threshold.
        precision: Share of the second class among the rows that count as such; 0 if none does.
        recall: Share of the rows of the second class that count as such.
        f1: Harmonic mean of both.
        balanced_accuracy: Mean of the recalls of both classes.
        positive: Share of the rows that count as of the second class.
    """

    goal: Goal
    asked: Share | None = None
    threshold: Share
    precision: Share
    recall: Share
    f1: Share
    balanced_accuracy: Share
    positive: Share


class Reliability(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Figures of a binary classifier on rows that it was not fitted on.

    Attributes:
        rows: Number of rows behind the bins and the errors.
        positive: Share of these rows that are of the second class.
        log_loss: Mean of -log of the probability that was predicted for the row's class.
        brier: Mean squared difference of prediction and class (0 or 1).
        calibration_error: Expected calibration error: mean of |predicted - actual| over the bins, weighted by rows.
        bins: The reliability diagram, ascending.
        threshold_rows: Number of rows behind the figures of the thresholds.
        thresholds: Thresholds by goal.
    """

    rows: Count
    positive: Share
    log_loss: Annotated[float, msgspec.Meta(ge=0)]
    brier: Share
    calibration_error: Share
    bins: Annotated[tuple[Bin, ...], msgspec.Meta(max_length=MAX_BINS)]
    threshold_rows: Count
    thresholds: Annotated[tuple[Threshold, ...], msgspec.Meta(max_length=MAX_THRESHOLDS)]

    @classmethod
    def from_json(cls, text: bytes) -> "Reliability":
        """Read the figures.

        Raises:
            ModelRefused: The text holds none.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ModelRefused(f"the model's reliability cannot be read: {error}") from error
