"""Prometheus series of the models in service, made at each scrape."""

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.models.slot import ModelSlot
from kernels.engine import EngineStatus


class SlotSeries(Collector):
    """Series of all slots. What is not known of a model has none.

    Args:
        slots: The models in service, a slot for each name.
    """

    def __init__(self, slots: Mapping[str, ModelSlot]) -> None:
        self._slots = slots

    def collect(self) -> Iterable[Metric]:
        """The families, for the registry."""
        usable = GaugeMetricFamily(
            "compute_backend_usable",
            "1 for a backend in use, 0 for one that failed.",
            labels=("model_name", "backend", "device"),
        )
        out_of_memory = CounterMetricFamily(
            "compute_backend_out_of_memory",
            "Times that a batch did not fit into a device's memory.",
            labels=("model_name", "backend"),
        )
        stale = _family(
            "model_stale",
            "1 while the registry has not answered, so that the model in use may not be the one that it prefers.",
        )
        pinned = _family("model_pinned", "1 while an operator has pinned a version.")
        age = _family("model_age_seconds", "Time since the registry last answered what it prefers.")
        missing = _family(
            "model_alias_missing",
            "1 while MODEL_ALIAS names no version of the registry, so that no other takes its place.",
        )
        for name, slot in self._slots.items():
            if (status := slot.engine_status()) is not None:
                _add_backends(name, status, usable, out_of_memory)
            if (freshness := slot.freshness()) is not None:
                stale.add_metric((name,), float(freshness.stale))
                pinned.add_metric((name,), float(freshness.pinned))
                if freshness.age is not None:
                    age.add_metric((name,), freshness.age)
            if slot.alias_missing is not None:
                missing.add_metric((name,), float(slot.alias_missing))
        yield from (family for family in (usable, out_of_memory, stale, pinned, age, missing) if family.samples)


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=("model_name",))


def _add_backends(
    name: str, status: EngineStatus, usable: GaugeMetricFamily, out_of_memory: CounterMetricFamily
) -> None:
    """Compute backends of a model in use. Counts belong to its engine, and restart with another version."""
    for backend_name, backend in status.backends.items():
        usable.add_metric((name, backend_name, backend.device), 1)
        out_of_memory.add_metric((name, backend_name), backend.out_of_memory)
    if status.disabled is not None:
        usable.add_metric((name, status.disabled, status.disabled_device or ""), 0)
