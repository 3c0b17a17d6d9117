"""The newest rows of a model version whose outcomes are known, and their figures."""

from datetime import datetime
from typing import NamedTuple

import msgspec
import numpy as np

from app.codecs.rules import FloatArray
from app.outcomes import figures
from app.outcomes.report import FLOOR, Figures, Performance
from app.outcomes.store import Joined, Key, Model
from app.outcomes.target import Target

MOST_OUTPUTS = 1_000_000
"""Most numbers of a window; a model of many outputs has fewer rows."""

MOST_CLASSES = 20
"""Most classes whose curves are computed, each of which sorts all rows."""


class _Row(NamedTuple):
    """A row: see `Joined`; `actual` is None where it is no value of the model, or the prediction is none."""

    id: int
    actual: float | None
    prediction: float | list[float] | None
    interval: tuple[float | None, float | None, float | None]
    created_at: datetime | None


class Window:
    """The newest rows of a version, by the order in which they were predicted.

    Args:
        target: What the version predicts.
        rows: Most rows.
    """

    def __init__(self, target: Target, rows: int) -> None:
        self.target = target
        self._most = min(rows, max(1, MOST_OUTPUTS // target.outputs))
        self._rows: dict[Key, _Row] = {}

    def add(self, joined: Joined) -> None:
        """Add a row with its outcome, or the corrected outcome of one. Of requests with one id, the newest counts."""
        if joined.id is None:
            return
        before = self._rows.get(joined.key)
        if before is None or before.id <= joined.id:
            actual = self.target.number(joined.actual) if self._has_outputs(joined.prediction) else None
            row = _Row(joined.id, actual, joined.prediction, joined.interval, joined.created_at)
            self._rows[joined.key] = row
        if len(self._rows) > 2 * self._most:
            self._drop_oldest()

    def _has_outputs(self, prediction: float | list[float] | None) -> bool:
        """Whether a prediction has the model's outputs; a registry that was made anew counts its versions from 1."""
        outputs = len(prediction) if isinstance(prediction, list) else 0 if prediction is None else 1
        return outputs == self.target.outputs

    def _drop_oldest(self) -> None:
        newest = sorted(self._rows.items(), key=lambda item: item[1].id)[-self._most :]
        self._rows = dict(newest)

    def performance(self, model: Model) -> Performance:
        """The figures of the version."""
        self._drop_oldest()
        rows = [row for row in self._rows.values() if row.actual is not None]
        found: Figures | None = None
        if not self._rows:
            state = "no outcomes"
        elif self.target.kind == "none":
            state = "no figures for this objective"
        elif len(rows) < FLOOR:
            state = "not enough rows"
        else:
            state, found = "measured", self._figures(rows)
        times = [row.created_at for row in self._rows.values() if row.created_at is not None]
        return Performance(
            model_name=model[0],
            model_version=model[1],
            kind=self.target.kind,
            state=state,
            rows=len(self._rows),
            unusable=len(self._rows) - len(rows),
            first=min(times, default=None),
            last=max(times, default=None),
            figures=found,
        )

    def _figures(self, rows: list[_Row]) -> Figures:
        actual = np.array([row.actual for row in rows], np.float64)
        found = figures_of(self.target, actual, np.array([row.prediction for row in rows], np.float64))
        return found if self.target.kind != "regression" else _with_coverage(found, actual, rows)


def _with_coverage(found: Figures, actual: FloatArray, rows: list[_Row]) -> Figures:
    """Figures of a regression with the coverage of its intervals, of the level that the newest row has."""
    level = next((row.interval[2] for row in reversed(rows) if row.interval[2] is not None), None)
    inside = np.array([row.interval[2] == level and None not in row.interval for row in rows])
    if level is None or inside.sum() < FLOOR:
        return found
    bounds = np.array([row.interval[:2] for row in rows], np.float64)[inside]
    covered = figures.coverage(actual[inside], bounds[:, 0], bounds[:, 1])
    return msgspec.structs.replace(found, interval_coverage=covered, interval_level=level)


def figures_of(target: Target, actual: FloatArray, predicted: FloatArray) -> Figures:
    """Figures of predictions, without those of their intervals.

    Args:
        target: What the model predicts; not of the kind `none`.
        actual: float64[N], from `Target.number`; N > 0.
        predicted: float64[N] or float64[N, K].
    """
    if target.kind != "regression":
        return of_classes(actual, predicted)
    with np.errstate(over="ignore", invalid="ignore"):  # an actual value of 1e308 has no square
        errors = predicted - actual
        found = figures.rmse(errors), float(np.abs(errors).mean()), figures.r2(actual, errors)
    rmse, mae, r2 = (one if one is not None and np.isfinite(one) else None for one in found)
    return Figures(rmse=rmse, mae=mae, r2=r2)


def of_classes(actual: FloatArray, predicted: FloatArray) -> Figures:
    """Figures of a classifier.

    Args:
        actual: float64[N], of two classes the share of the second, of more the index of the one that happened.
        predicted: float64[N] or float64[N, K], its probabilities.
    """
    area: float | None = None
    if predicted.ndim == 1:
        if np.isin(actual, (0.0, 1.0)).all():
            area = figures.auc(actual == 1.0, predicted)
    elif predicted.shape[1] <= MOST_CLASSES:
        area = figures.macro_auc(actual, predicted)
    return Figures(
        log_loss=figures.log_loss(actual, predicted),
        auc=area,
        calibration_error=figures.calibration_error(actual, predicted),
    )
