"""The report on the error of each model version in service: `GET /outcomes`, and part of others."""

from datetime import datetime
from typing import Literal

import msgspec

from app.outcomes.target import Kind

FLOOR = 100
"""Fewest rows for figures. With 100, an RMSE is known to some 7 % of itself, and a coverage to 0.03."""


class Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Figures of error; those that do not apply, or cannot be computed, are left out.

    Attributes:
        rmse: Root mean squared error, in the target's unit.
        mae: Mean absolute error, in the target's unit.
        r2: Coefficient of determination.
        interval_coverage: Share of actual values inside the logged interval.
        interval_level: Level of these intervals, which the coverage should be.
        log_loss: Mean negative log of the probability of what happened.
        auc: Area under the ROC curve; of more than two classes, the mean of each class against the others.
        calibration_error: Expected calibration error, over ten bins.
    """

    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    interval_coverage: float | None = None
    interval_level: float | None = None
    log_loss: float | None = None
    auc: float | None = None
    calibration_error: float | None = None


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """What the predictions of a version were worth.

    Attributes:
        model_name: Name of the model.
        model_version: Its version.
        kind: Kind of its figures.
        state: Whether there are figures, or why not.
        rows: Rows with an outcome that are looked at, the newest ones.
        unusable: Rows among those whose actual value cannot be one of this model; they are in no figure.
        first: When the first of these predictions was answered.
        last: When the last of them was.
        figures: The figures; null unless `state` is `measured`.
    """

    model_name: str
    model_version: str
    kind: Kind
    state: Literal["no outcomes", "not enough rows", "no figures for this objective", "measured"]
    rows: int
    unusable: int
    first: datetime | None
    last: datetime | None
    figures: Figures | None


class OutcomesReport(msgspec.Struct, frozen=True, kw_only=True):
    """Error of the model versions in service, by the outcomes that are known.

    Attributes:
        state: `off` where predictions are not logged in a table, `starting` until the table was read first,
            `unavailable` while it cannot be read: then the figures are those of the last time.
        reason: Why, in the states `off` and `unavailable`.
        window_rows: Most rows of a version that are looked at.
        floor_rows: Fewest rows for figures.
        waiting: Outcomes whose predictions are not logged (yet).
        computed_at: When the figures were computed.
        versions: Versions in service, the one that answers first.
    """

    state: Literal["off", "starting", "unavailable", "ready"]
    reason: str | None = None
    window_rows: int
    floor_rows: int = FLOOR
    waiting: int = 0
    computed_at: datetime | None = None
    versions: tuple[Performance, ...] = ()
