"""Prometheus series of drift, made at each scrape. Their number is bounded by the features that are watched."""

from collections.abc import Callable, Iterable, Sequence
from itertools import compress, repeat
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from app.drift.bins import Bins
from app.drift.limits import MAJOR, MODERATE
from app.drift.report import Measured, levels_of, measure
from app.drift.statistics import Shifts
from app.drift.tracker import Tracker
from app.drift.window import WindowedCounts

MODEL = ("model_name", "model_version")
FEATURE = (*MODEL, "feature")
OUTPUT = (*MODEL, "output")

OF_FEATURES = ("drift_psi", "drift_js_divergence", "drift_ks", "drift_level")
OF_PREDICTION = (
    "drift_prediction_psi", "drift_prediction_js_divergence", "drift_prediction_ks", "drift_prediction_level",
)  # fmt: skip


class DriftSeries(Collector):
    """Exports the counts and shifts of all trackers.

    Args:
        trackers: Gives the trackers of the models in service, of each name.
    """

    def __init__(self, trackers: Callable[[], Sequence[Tracker]]) -> None:
        self._trackers = trackers
        self._labels: WeakKeyDictionary[WindowedCounts, tuple[_Labels, _Labels]] = WeakKeyDictionary()

    def collect(self) -> Iterable[Metric]:
        """The families, for the registry."""
        reference = GaugeMetricFamily(
            "drift_reference_info",
            "1 for what the rows of a version are compared with: training, profile, served or none.",
            labels=(*MODEL, "source"),
        )
        found: list[_Found] = []
        for tracker in self._trackers():
            model, counts = (tracker.model.name, tracker.model.version), tracker.counts
            reference.add_metric((*model, "none" if counts is None else counts.profile.source), 1)
            if counts is not None:
                if counts not in self._labels:
                    features = _labels_of(model, "feature", counts.features)
                    self._labels[counts] = features, _labels_of(model, "output", counts.prediction)
                found.append(_Found(model, counts, measure(counts), *self._labels[counts]))
        yield reference
        if found:
            yield from _totals(found)
            yield from _references(found)
            yield from _windows(found)


class _Labels(NamedTuple):
    """Labels of the series of K columns, kept because they take longer to make than the values.

    Attributes:
        columns: Labels of each column.
        cells: Labels of each bin.
    """

    columns: list[dict[str, str]]
    cells: list[dict[str, str]]


class _Found(NamedTuple):
    """A version of a model, by both names, and its shifts."""

    model: tuple[str, str]
    counts: WindowedCounts
    measured: Measured
    features: _Labels
    prediction: _Labels


def _labels_of(model: tuple[str, str], label: str, bins: Bins) -> _Labels:
    named = dict(zip(MODEL, model, strict=True))
    columns = [named | {label: column.name} for column in bins.columns]
    cells = [
        labels | {"bin": name} for labels, column in zip(columns, bins.columns, strict=True) for name in column.bins
    ]
    return _Labels(columns, cells)


def _fill(family: Metric, labels: Sequence[dict[str, str]], values: Any, suffix: str = "") -> None:
    """Add a series for each value, without what `add_metric` does again for each."""
    family.samples += map(Sample, repeat(family.name + suffix), labels, values.tolist())


def _totals(found: Sequence[_Found]) -> Iterable[Metric]:
    """Counters of all rows, which can be summed over replicas."""
    rows = CounterMetricFamily("feature_rows", "Rows counted by drift detection.", labels=MODEL)
    cells = CounterMetricFamily(
        "feature_bin", "Rows with a feature's value in a bin of the reference.", labels=(*FEATURE, "bin")
    )
    missing = CounterMetricFamily("feature_missing", "Rows without a feature's value.", labels=FEATURE)
    outside = CounterMetricFamily(
        "feature_out_of_range",
        "Rows with a feature's value outside the reference's range; they are in the outer bins too.",
        labels=FEATURE,
    )
    outputs = CounterMetricFamily(
        "prediction_bin", "Rows with an output of the model in a bin of the reference.", labels=(*OUTPUT, "bin")
    )
    for model, counts, _, by_feature, by_output in found:
        features, prediction = counts.total()
        rows.add_metric(model, features.rows)
        _fill(cells, by_feature.cells, features.cells[counts.features.is_bin], "_total")
        _fill(missing, by_feature.columns, features.missing, "_total")
        _fill(outside, by_feature.columns, features.below + features.above, "_total")
        _fill(outputs, by_output.cells, prediction.cells[counts.prediction.is_bin], "_total")
    yield from (rows, cells, missing, outside, outputs)


def _references(found: Sequence[_Found]) -> Iterable[Metric]:
    """Shares of the reference, which a query compares the counters with."""
    help_text = "Share of the reference's present values in a bin."
    cells = GaugeMetricFamily("feature_bin_reference_share", help_text, labels=(*FEATURE, "bin"))
    missing = GaugeMetricFamily(
        "feature_missing_reference_share", "Share of the reference's rows without a feature's value.", labels=FEATURE
    )
    outputs = GaugeMetricFamily("prediction_bin_reference_share", help_text, labels=(*OUTPUT, "bin"))
    for _, counts, _, by_feature, by_output in found:
        _fill(cells, by_feature.cells, counts.features.shares[counts.features.is_bin])
        _fill(missing, by_feature.columns, counts.features.missing)
        _fill(outputs, by_output.cells, counts.prediction.shares[counts.prediction.is_bin])
    yield from (cells, missing, outputs)


def _windows(found: Sequence[_Found]) -> Iterable[Metric]:
    """Shifts of the rows in the window; absent with too few rows."""
    rows = GaugeMetricFamily("drift_window_rows", "Rows in the window of DRIFT_WINDOW.", labels=MODEL)
    for model, _, measured, _, _ in found:
        rows.add_metric(model, measured.window.features.rows)
    yield rows
    by_feature = [(each.features, each.measured.features) for each in found]
    by_output = [(each.prediction, each.measured.prediction) for each in found]
    yield from _shifts(OF_FEATURES, "a feature", FEATURE, by_feature)
    yield from _shifts(OF_PREDICTION, "an output", OUTPUT, by_output)


def _shifts(
    names: Sequence[str], what: str, labels: Sequence[str], found: Sequence[tuple[_Labels, Shifts | None]]
) -> Iterable[Metric]:
    helps = (
        f"Population stability index of {what}.",
        f"Jensen-Shannon divergence of {what}, in bits.",
        f"Kolmogorov-Smirnov statistic of {what}.",
        f"Shift of {what}: 0 stable, 1 moderate (PSI {MODERATE}), 2 major (PSI {MAJOR}).",
    )
    psi, js, ks, level = (GaugeMetricFamily(name, text, labels=labels) for name, text in zip(names, helps, strict=True))
    for each, shifts in found:
        if shifts is not None:
            _fill(psi, each.columns, shifts.psi)
            _fill(js, each.columns, shifts.js)
            ordered = ~np.isnan(shifts.ks)
            _fill(ks, list(compress(each.columns, ordered.tolist())), shifts.ks[ordered])
            _fill(level, each.columns, levels_of(shifts.psi))
    yield from (psi, js, ks, level)
