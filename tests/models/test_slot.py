"""The models in service by role, and their metrics."""

from types import SimpleNamespace
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.errors import ModelUnavailable
from app.models.slot import ModelSlot, Role
from app.models.watch.series import SlotSeries
from app.telemetry.metrics import Metrics
from kernels.dispatch import BackendStatus
from kernels.engine import EngineStatus
from kernels.forest.status import ForestStatus


def computing(
    *names: str, out_of_memory: int = 0, disabled: str | None = None, device: str | None = "H100"
) -> EngineStatus:
    """The status of an engine that uses backends of these names."""
    return EngineStatus(
        backends={name: BackendStatus(f"a {name}", None, None, None, out_of_memory) for name in names},
        disabled=disabled,
        disabled_device=disabled and device,
        disabled_reason=disabled and "it is lost",
        forest=ForestStatus(evaluator="kernels"),
        difficulty=None,
    )


def backend_series(metrics: Metrics) -> dict[tuple[str, str, str | None], float]:
    """Values by name, backend and device."""
    return {
        (sample.name, sample.labels["backend"], sample.labels.get("device")): sample.value
        for family in text_string_to_metric_families(metrics.exposition.text().decode())
        for sample in family.samples
        if sample.name.startswith("compute_backend_")
    }


def test_an_empty_slot_has_no_model_to_give() -> None:
    with pytest.raises(ModelUnavailable, match="No model is loaded yet"):
        ModelSlot().require()


@pytest.mark.parametrize("role", get_args(Role))
def test_a_model_is_put_in_its_role_alone_and_taken_out(role: Role) -> None:
    slot, model = ModelSlot(), served(computing("cpu"))
    slot.put(role, model)
    assert {other: slot.get(other) for other in get_args(Role)} == dict.fromkeys(get_args(Role)) | {role: model}
    assert getattr(slot, role) is model
    slot.put(role, None)
    assert slot.get(role) is None


def test_backends_are_exported_at_each_scrape_while_a_model_serves() -> None:
    slot, metrics = ModelSlot(), Metrics()
    metrics.register(SlotSeries({"houses": slot}))
    assert backend_series(metrics) == {}
    slot.current = served(computing("cuda", "cpu", out_of_memory=2))
    assert backend_series(metrics) == {
        ("compute_backend_usable", "cuda", "a cuda"): 1,
        ("compute_backend_usable", "cpu", "a cpu"): 1,
        ("compute_backend_out_of_memory_total", "cuda", None): 2,
        ("compute_backend_out_of_memory_total", "cpu", None): 2,
    }
    remaining = {
        ("compute_backend_usable", "cpu", "a cpu"): 1,
        ("compute_backend_out_of_memory_total", "cpu", None): 0,
    }
    slot.current = served(computing("cpu", disabled="cuda"))
    assert backend_series(metrics) == {**remaining, ("compute_backend_usable", "cuda", "H100"): 0}
    slot.current = served(computing("cpu", disabled="cuda", device=None))
    assert backend_series(metrics) == {**remaining, ("compute_backend_usable", "cuda", ""): 0}


def served(status: EngineStatus) -> Any:
    """A model that computes with the backends of a status."""
    return SimpleNamespace(engine=SimpleNamespace(status=lambda: status))
