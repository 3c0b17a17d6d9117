"""How reliable a classifier's probabilities were on rows that it was not fitted on, and thresholds for them.

A stored description, which changes no prediction: `/predict/model/info` shows it.
"""

from typing import Annotated, Literal

import msgspec

from app.models.refusal import ModelRefused

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Event = Literal["second_class", "most_probable_class"]
Goal = Literal["f1", "balanced_accuracy", "precision", "recall"]

MAX_BINS, MAX_THRESHOLDS = 100, 100


class Bin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows for which the event has a probability between two bounds.

    Attributes:
        low: Least probability.
        high: Bound that the probabilities are below; the last bin has those equal to it, too.
        rows: Number of rows.
        predicted: Their mean probability; 0 without rows.
        actual: Share of them for which the event is true; 0 without rows.
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
    """Figures of a classifier on rows that it was not fitted on.

    Attributes:
        event: What the bins are about: that a row is of the second class; of a model of several classes, that it is of
            the class that is the most probable one (C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On Calibration of
            Modern Neural Networks, ICML 2017, section 2).
        rows: Number of rows behind the bins and the errors.
        actual: Share of these rows for which the event is true. Of several classes this is the accuracy.
        log_loss: Mean of -log of the probability that was predicted for the row's class.
        brier: Mean squared difference of prediction and class (0 or 1); of several classes, summed over the classes.
        calibration_error: Expected calibration error: mean of |predicted - actual| over the bins, weighted by rows.
        bins: The reliability diagram, ascending.
        threshold_rows: Number of rows behind the figures of the thresholds; 0 for several classes.
        thresholds: Thresholds by goal; none for several classes.
    """

    event: Event
    rows: Count
    actual: Share
    log_loss: Annotated[float, msgspec.Meta(ge=0)]
    brier: Annotated[float, msgspec.Meta(ge=0)]
    calibration_error: Share
    bins: Annotated[tuple[Bin, ...], msgspec.Meta(max_length=MAX_BINS)]
    threshold_rows: Count = 0
    thresholds: Annotated[tuple[Threshold, ...], msgspec.Meta(max_length=MAX_THRESHOLDS)] = ()

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
