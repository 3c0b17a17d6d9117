"""How the series of several workers become those of one service."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

Rule = Literal["sum", "greatest", "least", "leader"]

RULES: tuple[tuple[str, Rule], ...] = (
    ("model_shadow_", "sum"),
    ("model_", "leader"),
    ("drift_", "leader"),
    ("feature_", "leader"),
    ("prediction_bin", "leader"),
    ("outcome_", "leader"),
    ("gpu_", "leader"),
    ("dependency_", "leader"),
    ("build_info", "leader"),
    ("service_", "leader"),
    ("workers", "leader"),
    ("prediction_log_pruned_rows", "leader"),
    ("python_info", "leader"),
    ("compute_backend_usable", "least"),
    ("predictions_wait_seconds", "greatest"),
    ("process_max_fds", "least"),
    ("process_start_time_seconds", "least"),
)
"""Rule by what the name of a family begins with, the first that fits. Counters and histograms that fit none are summed,
and so are these gauges:"""

SUMMED_GAUGES = frozenset(
    {
        "requests_in_flight",
        "predictions_in_progress",
        "rows_in_flight",
        "prediction_log_rows_waiting",
        "prediction_log_spool_bytes",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
    }
)

Key = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels of a series."""


class Series(msgspec.Struct, frozen=True, array_like=True):
    """A sample of a family."""

    name: str
    labels: dict[str, str]
    value: float
    exemplar: tuple[dict[str, str], float, float | None] | None = None

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return self.name, tuple(sorted(self.labels.items()))


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The series of a name, as they go from worker to worker."""

    name: str
    documentation: str
    kind: str
    unit: str
    series: list[Series]


class Dump(msgspec.Struct, frozen=True, kw_only=True):
    """All series of a worker at a moment.

    Attributes:
        at: The moment, by `time.monotonic`, which all processes of a machine share.
        pid: Its process; None for those that have ended.
        leads: Whether it leads.
        families: Its series; those of the leader only if it leads.
        folded: Names of the files of ended workers that are part of it.
    """

    at: float
    pid: int | None
    leads: bool
    families: list[Family]
    folded: tuple[str, ...] = ()


def rule_of(name: str) -> Rule:
    """Rule for a family."""
    for beginning, rule in RULES:
        if name.startswith(beginning):
            return rule
    return "sum"


def is_cumulative(kind: str) -> bool:
    """Whether the series of a family grow only, so that those of workers that have ended count as well."""
    return kind in ("counter", "histogram")


def families_of(metrics: Iterable[Metric], *, leads: bool) -> list[Family]:
    """Series as they go from worker to worker, without those that are the leader's alone unless it is this worker."""
    return [
        Family(
            metric.name, metric.documentation, metric.type, metric.unit,
            [Series(sample.name, sample.labels, sample.value, _exemplar(sample.exemplar)) for sample in metric.samples],
        )
        for metric in metrics
        if leads or rule_of(metric.name) != "leader"
    ]  # fmt: skip


def less(families: Sequence[Family], before: dict[Key, float]) -> list[Family]:
    """Families whose series are less by what they were before."""
    if not before:
        return list(families)
    return [
        msgspec.structs.replace(
            family,
            series=[msgspec.structs.replace(one, value=one.value - before.get(one.key, 0.0)) for one in family.series],
        )
        for family in families
    ]


def merged(dumps: Sequence[Dump], is_here: Sequence[bool]) -> list[Metric]:
    """The series of the service.

    Args:
        dumps: Those of each worker, also of workers that have ended, the leader's first.
        is_here: Of each dump, whether its worker is there and answers. The others count with what grows only.
    """
    families: dict[str, Family] = {}
    found: dict[str, dict[Key, Series]] = {}
    for dump, here in zip(dumps, is_here, strict=True):
        for family in dump.families:
            if not (here or is_cumulative(family.kind)):
                continue
            families.setdefault(family.name, family)
            series, rule = found.setdefault(family.name, {}), rule_of(family.name)
            for one in family.series:
                key = one.key
                other = series.get(key)
                series[key] = one if other is None else _joined(other, one, rule, cumulative=is_cumulative(family.kind))
    return [_metric(family, found[name].values()) for name, family in families.items()]


def _joined(one: Series, other: Series, rule: Rule, *, cumulative: bool) -> Series:
    if cumulative or rule == "sum":
        value = one.value + other.value
    elif rule == "greatest":
        value = max(one.value, other.value)
    elif rule == "least":
        value = min(one.value, other.value)
    else:
        return one
    return Series(one.name, one.labels, value, one.exemplar or other.exemplar)


def _metric(family: Family, series: Iterable[Series]) -> Metric:
    metric = Metric(family.name, family.documentation, family.kind, family.unit)
    metric.samples = [
        Sample(one.name, one.labels, one.value, None, None if one.exemplar is None else Exemplar(*one.exemplar))
        for one in series
    ]
    return metric


def _exemplar(exemplar: Exemplar | None) -> tuple[dict[str, str], float, float | None] | None:
    if exemplar is None:
        return None
    moment = exemplar.timestamp
    return exemplar.labels, exemplar.value, None if moment is None else float(moment)
