"""The report of `GET /drift`: how far the rows of the window have shifted from the model's reference."""

from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.drift.bins import Binned, Bins, Column
from app.drift.limits import LEAST_ROWS, MAJOR, MODERATE
from app.drift.profile import Categories, Source
from app.drift.statistics import Shifts, shifts
from app.drift.tracker import Tracker
from app.drift.window import Counted, WindowedCounts
from app.feature import Category

Level = Literal["stable", "moderate", "major"]
State = Literal["no reference", "not enough rows", "stable", "moderate", "major"]

LEVELS: tuple[Level, ...] = ("stable", "moderate", "major")
MOST_BINS = 3
"""Bins of a column that are listed."""


class BinShift(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bin whose share has changed.

    Attributes:
        bin: Its name in the metrics.
        share: Share of the present values now.
        reference_share: Share of the present values in the reference.
        lower: Least value of a bin of numbers.
        upper: Upper end of a bin of numbers.
        category: Category, where the bin is one.
    """

    bin: str
    share: float
    reference_share: float
    lower: float | None = None
    upper: float | None = None
    category: Category | None = None


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """Shift of a feature, or of an output of the model.

    Attributes:
        name: Name of the feature, or index of the output.
        level: Level of the shift; null with fewer than 500 rows, as are the four numbers that follow.
        psi: Population stability index.
        psi_by_chance: What it would be on average without a shift.
        js: Jensen-Shannon divergence in bits.
        ks: Kolmogorov-Smirnov statistic, as far as the bins tell; null for categories.
        missing: Share of missing values; null without rows.
        missing_reference: The same in the reference.
        out_of_range: Share of values outside the range of the reference; null without rows.
        bins: Bins whose shares have changed most.
    """

    name: str
    level: Level | None
    psi: float | None
    psi_by_chance: float | None
    js: float | None
    ks: float | None
    missing: float | None
    missing_reference: float
    out_of_range: float | None
    bins: tuple[BinShift, ...]


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared with.

    Attributes:
        source: `training` came with the model, `profile` was made by `madrone profile`, `served` are the first rows
            that were served.
        rows: Rows behind the features.
        prediction_rows: Rows behind the predictions.
    """

    source: Source
    rows: int
    prediction_rows: int


class ModelDrift(msgspec.Struct, frozen=True, kw_only=True):
    """Drift of the rows that a model version answered.

    Attributes:
        model_version: The version.
        state: The highest level of all features and outputs, or why there is none.
        reference: What is compared with; null while there is nothing.
        collected_rows: Rows that were collected for a reference so far; 0 where there is one.
        window_seconds: Length of the window.
        rows: Rows in the window.
        features: The features that are watched, at most 50, by falling PSI.
        prediction: The outputs, at most 20, by falling PSI.
    """

    model_version: str
    state: State
    reference: Reference | None
    collected_rows: int
    window_seconds: float
    rows: int
    features: tuple[ColumnDrift, ...] = ()
    prediction: tuple[ColumnDrift, ...] = ()


class Measured(NamedTuple):
    """The rows of a window, and their shifts; None with fewer than `LEAST_ROWS` rows."""

    window: Counted
    features: Shifts | None
    prediction: Shifts | None


def measure(counts: WindowedCounts) -> Measured:
    """Shifts of the rows in the window."""
    window = counts.window()
    if window.features.rows < LEAST_ROWS:
        return Measured(window, None, None)
    profile = counts.profile
    return Measured(
        window,
        shifts(counts.features, window.features, profile.rows),
        shifts(counts.prediction, window.prediction, profile.prediction_rows),
    )


def levels_of(psi: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index in `LEVELS` of each PSI's level."""
    return np.searchsorted(np.array((MODERATE, MAJOR)), psi, side="right")


def report(tracker: Tracker, window_seconds: float) -> ModelDrift:
    """Report on a model version."""
    counts = tracker.counts
    if counts is None:
        return ModelDrift(
            model_version=tracker.model.version,
            state="no reference",
            reference=None,
            collected_rows=tracker.baseline_rows,
            window_seconds=window_seconds,
            rows=0,
        )
    window, by_feature, by_output = measure(counts)
    features = _columns(counts.features, window.features, by_feature)
    prediction = _columns(counts.prediction, window.prediction, by_output)
    levels = [LEVELS.index(column.level) for column in (*features, *prediction) if column.level is not None]
    profile = counts.profile
    return ModelDrift(
        model_version=tracker.model.version,
        state="not enough rows" if by_feature is None else LEVELS[max(levels, default=0)],
        reference=Reference(source=profile.source, rows=profile.rows, prediction_rows=profile.prediction_rows),
        collected_rows=0,
        window_seconds=window_seconds,
        rows=window.features.rows,
        features=features,
        prediction=prediction,
    )


def _columns(bins: Bins, now: Binned, found: Shifts | None) -> tuple[ColumnDrift, ...]:
    """Columns by falling PSI."""
    present = np.maximum(1, now.rows - now.missing)
    shares, reference = (now.cells / present[:, None]).tolist(), bins.shares.tolist()
    absent, outside = now.missing / max(1, now.rows), (now.below + now.above) / max(1, now.rows)
    levels = None if found is None else levels_of(found.psi)
    columns = [
        ColumnDrift(
            name=column.name,
            level=None if levels is None else LEVELS[levels[place]],
            psi=None if found is None else float(found.psi[place]),
            psi_by_chance=None if found is None else float(found.by_chance[place]),
            js=None if found is None else float(found.js[place]),
            ks=None if found is None or np.isnan(found.ks[place]) else float(found.ks[place]),
            missing=float(absent[place]) if now.rows else None,
            missing_reference=float(bins.missing[place]),
            out_of_range=float(outside[place]) if now.rows else None,
            bins=_most_shifted(column, shares[place], reference[place]) if now.rows else (),
        )
        for place, column in enumerate(bins.columns)
    ]
    return tuple(sorted(columns, key=lambda column: -(column.psi or 0.0)))


def _most_shifted(column: Column, shares: list[float], reference: list[float]) -> tuple[BinShift, ...]:
    """Bins whose shares have changed most, those first."""
    names = column.bins
    order = sorted(range(len(names)), key=lambda index: -abs(shares[index] - reference[index]))
    return tuple(_bin(column, names[index], index, shares[index], reference[index]) for index in order[:MOST_BINS])


def _bin(column: Column, name: str, index: int, share: float, reference: float) -> BinShift:
    spread = column.spread
    if isinstance(spread, Categories):
        category = spread.values[index] if index < len(spread.values) else None
        return BinShift(bin=name, share=share, reference_share=reference, category=category)
    lower, upper = spread.edges[index : index + 2] or (None, None)
    return BinShift(bin=name, share=share, reference_share=reference, lower=lower, upper=upper)
