"""What calls give. Fields that the service adds later are ignored, so that an older client reads a newer service."""

from typing import Literal

import msgspec

from madrone.client.errors import FieldError

Number = float | list[float]
"""A number, or one for each output of a model with several."""

Label = str | bool | int | float
"""Label of a class."""

Value = str | bool | int | float | None
"""Value of a feature; None where it is missing."""

Output = Literal["auto", "labels", "probabilities", "raw"]
"""What an answer has beside the prediction."""

Space = Literal["raw", "model"]
"""Features of an explanation: those of the request, or those that the booster takes."""


class Interval(msgspec.Struct, frozen=True):
    """Bounds that contain the true value with probability `level`."""

    lower: float
    upper: float
    level: float


class Contribution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a feature adds to the raw score.

    Attributes:
        feature: Name of the feature, or of a group of features that only act together.
        features: Features of the group; None for a single feature.
        value: Value of the feature; of a group the value of each.
        contribution: Of a model with several outputs, one number for each.
    """

    feature: str
    features: tuple[str, ...] | None = None
    value: Value | list[Value]
    contribution: Number


class OtherContributions(msgspec.Struct, frozen=True):
    """What the features add that are not listed: their number, and the sum."""

    features: int
    contribution: Number


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each feature adds to the raw score (SHAP values).

    Attributes:
        base_value: Mean raw score of the training rows, to which the contributions are added.
        raw_score: Sum of base value and contributions.
        units: What that is: `prediction` for a model whose predictions are its raw scores, else `raw score`.
        contributions: Those of greatest size first.
        other: Sum of the others; None if all are listed.
    """

    base_value: Number
    raw_score: Number
    units: str
    contributions: list[Contribution]
    other: OtherContributions | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a prediction.

    Attributes:
        request_id: Id of the request.
        actual: The actual value, or the label or index of the class.
        row: Index of the row within its request.
    """

    request_id: str
    actual: Label
    row: int = 0


class Predicted(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"interval": "confidence_interval"}
):
    """What the answers for a single row and for a row of a batch have in common."""

    prediction: Number
    interval: Interval | None = None
    warnings: list[str] = []
    label: Label | None = None
    probabilities: list[float] | None = None
    raw_score: Number | None = None
    explanation: Explanation | None = None
    leaves: list[int] | None = None


class Prediction(
    Predicted,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"version": "model_version", "stage": "model_stage"},
):
    """Prediction for one row.

    Attributes:
        prediction: What LightGBM predicts: for a regression in the target's unit.
        interval: Prediction interval; None for a model without intervals.
        warnings: What is odd about the row, such as a value outside the range seen in training.
        label: Label of the most probable class; None for a model without labels.
        probabilities: Probability of each class, in the order of the model's labels.
        raw_score: Sum of the leaf values, if `output="raw"` was asked for.
        explanation: What each feature adds, if that was asked for.
        leaves: Leaf that the row reaches in each tree, if that was asked for.
        version: Version of the model that answered.
        stage: Its stage in the registry.
        request_id: Id of the request, which an outcome names.
        row: Index of the row in its request, which an outcome names.
    """

    version: str
    stage: str | None = None
    request_id: str
    row: int = 0

    def outcome(self, actual: Label) -> Outcome:
        """The outcome of this prediction, for `send_outcomes`."""
        return Outcome(self.request_id, actual, self.row)


class FailedRow(msgspec.Struct, frozen=True, tag_field="status", tag="failed"):
    """Row of a batch that was not valid, or whose prediction is not finite.

    Attributes:
        index: Index of the row among those that were given.
        errors: Faults of its fields.
    """

    index: int
    errors: list[FieldError]


class BatchItem(Predicted, frozen=True, kw_only=True, tag_field="status", tag="predicted"):
    """Predicted row of a batch as the service sends it."""

    index: int


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Batch as the service sends it."""

    predictions: list[BatchItem | FailedRow]
    model_version: str
    model_stage: str | None = None
    request_id: str

    def rows(self, start: int) -> list[Prediction | FailedRow]:
        """What each row became, where the first row of the request had the index `start` among those given."""
        return [
            FailedRow(start + item.index, item.errors)
            if isinstance(item, FailedRow)
            else Prediction(
                **{name: getattr(item, name) for name in Predicted.__struct_fields__},
                version=self.model_version,
                stage=self.model_stage,
                request_id=self.request_id,
                row=item.index,
            )
            for item in self.predictions
        ]


class CurvePoint(msgspec.Struct, frozen=True):
    """Value of the feature in the row itself, and the prediction for the row."""

    value: Value
    prediction: Number


class Curve(msgspec.Struct, frozen=True, kw_only=True, rename={"version": "model_version"}):
    """Predictions for a row with other values of one feature.

    Attributes:
        feature: Name of the feature.
        values: Its values, ascending; of a category all categories.
        predictions: Prediction for each value.
        lower: Lower bound of each interval; None for a model without intervals.
        upper: Upper bounds, likewise.
        level: Level of the intervals.
        at: The row itself.
        version: Version of the model that answered.
        request_id: Id of the request.
    """

    feature: str
    values: list[Value]
    predictions: list[Number]
    lower: list[float] | None = None
    upper: list[float] | None = None
    level: float | None = None
    at: CurvePoint
    version: str
    request_id: str


class RefusedOutcome(msgspec.Struct, frozen=True):
    """Outcome that was not taken: its index among those that were given, and why."""

    index: int
    errors: list[FieldError]


class OutcomesTaken(msgspec.Struct, frozen=True, kw_only=True):
    """Number of outcomes by what became of them.

    Attributes:
        total: All that were sent.
        matched: Outcomes of logged predictions.
        waiting: Outcomes whose predictions are not logged (yet).
        duplicate: Outcomes that were known already, also by an attempt whose answer was lost.
        corrected: Outcomes that replace another value.
        refused: Outcomes that were not taken.
        errors: The first of these, at most 1,000 of each 10,000 outcomes.
    """

    total: int = 0
    matched: int = 0
    waiting: int = 0
    duplicate: int = 0
    corrected: int = 0
    refused: int = 0
    errors: list[RefusedOutcome] = []

    def plus(self, more: "OutcomesTaken") -> "OutcomesTaken":
        """Both together; the outcomes of `more` were given after these."""
        counts = {
            name: getattr(self, name) + getattr(more, name) for name in self.__struct_fields__ if name != "errors"
        }
        moved = [RefusedOutcome(self.total + error.index, error.errors) for error in more.errors]
        return OutcomesTaken(**counts, errors=self.errors + moved)
