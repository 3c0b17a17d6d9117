"""The engine has a device explain the batches for which it was measured to be faster, and the CPU all others."""

import math

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.cpu.backend import CpuBackend
from kernels.engine import Engine
from kernels.explainer import Explainer
from kernels.forest.explanation.explainer import ExplanationCost, KernelExplainer
from kernels.forest.forest import Forest, load_forest
from kernels.plan.plan import Input, Plan, Product
from tests.kernels.forest.boosters import without
from tests.kernels.hardware import PREFERRED, Explaining, Hardware

PLAN = Plan(
    inputs=(Input(name="a"), Input(name="b")),
    steps=(Product(output="area", left="a", right="b"),),
    outputs=("a", "b", "area"),
)
ROWS = np.random.default_rng(5).uniform(1, 9, (40, 2))


@pytest.fixture(scope="module")
def booster() -> lgb.Booster:
    X = np.random.default_rng(6).uniform(0, 9, (300, 3))
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3}
    return lgb.train(settings, lgb.Dataset(X, X.prod(axis=1)), 5)


@pytest.fixture
def slow_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that explains a single row at once, and each further one in a second."""
    cost = ExplanationCost(alone=0.0, each=1.0, first=5.0)
    monkeypatch.setattr(KernelExplainer, "measure", lambda *_: cost)


def engine_on(hardware: Hardware, booster: lgb.Booster) -> Engine:
    engine = Engine(Forest.from_booster(booster), PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS, PREFERRED)
    hardware.batches.clear()
    return engine


def by_cpu(booster: lgb.Booster, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return Engine(Forest.from_booster(booster), PLAN, device="cpu").explain(rows).contributions


@pytest.mark.usefixtures("slow_cpu")
def test_large_batches_go_to_the_device_and_small_ones_to_the_cpu(booster: lgb.Booster) -> None:
    hardware = Explaining()
    engine = engine_on(hardware, booster)
    assert (engine.explains_on_device(1), engine.explains_on_device(40)) == (False, True)
    for rows in (ROWS, ROWS[:1], ROWS[:0]):
        np.testing.assert_array_equal(engine.explain(rows).contributions, by_cpu(booster, rows))
    assert hardware.batches == [40]


def test_a_device_that_is_slower_explains_nothing(booster: lgb.Booster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KernelExplainer, "measure", lambda *_: ExplanationCost(0.0, 0.0, 0.0))
    hardware = Explaining()
    engine = engine_on(hardware, booster)
    engine.explain(ROWS)
    assert not engine.explains_on_device(10**9)
    assert hardware.batches == []


def test_nothing_goes_to_a_device_before_it_is_measured(booster: lgb.Booster) -> None:
    engine = Engine(Forest.from_booster(booster), PLAN, backends=[Explaining(), CpuBackend()])
    assert not engine.explains_on_device(10**9)
    assert engine.explain_cost(10**9) == math.inf
    np.testing.assert_array_equal(engine.explain(ROWS).contributions, by_cpu(booster, ROWS))


@pytest.mark.usefixtures("slow_cpu")
def test_the_cost_is_that_of_the_device_where_it_explains(
    booster: lgb.Booster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Explainer, "_measure_gpu", lambda *_: ExplanationCost(alone=0.5, each=1e-6, first=7.0))
    engine, later = engine_on(Explaining(), booster), 0.5 + 999e-6
    assert engine.explain_cost(1) == 5  # what the first explanation prepares
    assert engine.explain_cost(1000) == pytest.approx(later + 7 + 5)
    engine.explain(ROWS)
    assert engine.explain_cost(1000) == pytest.approx(later)
    assert engine.explain_chunk(10**6, later) == pytest.approx(1000, abs=1)
    assert engine.explain_chunk(10**6, 0) == 1


@pytest.mark.usefixtures("slow_cpu")
def test_the_cpu_explains_what_a_device_fails_at(booster: lgb.Booster) -> None:
    hardware = Explaining()
    engine = engine_on(hardware, booster)
    hardware.fails_after = 0
    np.testing.assert_array_equal(engine.explain(ROWS).contributions, by_cpu(booster, ROWS))
    status = engine.status()
    assert (status.disabled, hardware.closed) == ("cuda", 1)
    assert status.disabled_reason == "RuntimeError: an illegal memory access was encountered"
    assert not engine.explains_on_device(40)
    assert engine.explain_cost(1001) >= 1000
    engine.explain(ROWS)
    assert hardware.batches == [40]


@pytest.mark.usefixtures("slow_cpu")
def test_the_cpu_explains_what_does_not_fit_into_the_memory(booster: lgb.Booster) -> None:
    hardware = Explaining()
    engine = engine_on(hardware, booster)
    hardware.most_rows = 39
    np.testing.assert_array_equal(engine.explain(ROWS).contributions, by_cpu(booster, ROWS))
    backend = engine.status().backends["cuda"]
    assert (backend.out_of_memory, backend.largest_chunk) == (1, None)  # chunks of predictions stay as they are
    engine.explain(ROWS[:39])
    assert hardware.batches == [40, 39]


@pytest.mark.usefixtures("slow_cpu")
def test_a_device_that_fails_while_it_is_measured_explains_nothing(booster: lgb.Booster) -> None:
    class Fragile(Explaining):
        def explain(self, *_: object) -> NDArray[np.float64]:
            raise RuntimeError("no kernel image is available")

    engine = engine_on(Fragile(), booster)
    assert engine.status().disabled_reason == "RuntimeError: no kernel image is available"
    np.testing.assert_array_equal(engine.explain(ROWS).contributions, by_cpu(booster, ROWS))


def test_what_the_kernels_do_not_explain_stays_with_the_cpu(booster: lgb.Booster) -> None:
    text = booster.model_to_string()
    uncounted = load_forest(without(text, "leaf_count="))
    by_lightgbm = load_forest(text.replace("\nend of parameters", "[pred_early_stop: 1]\n\nend of parameters"))
    for forest in (uncounted, by_lightgbm):
        engine = Engine(forest, PLAN, backends=[Explaining(), CpuBackend()])
        engine.warm_up(ROWS, PREFERRED)
        assert not engine.explains_on_device(10**9)
    found = engine.explain(ROWS).contributions
    np.testing.assert_allclose(found, by_cpu(booster, ROWS), rtol=0, atol=1e-9)
