"""The engine picks the cheaper backend, and a dead one never costs an answer."""

import logging
import os
import subprocess
import sys
import threading

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.backend import Outcome, Pipeline
from kernels.cost import SIZES, Cost
from kernels.cpu.backend import CpuBackend
from kernels.cuda.availability import CudaUnavailableError, cuda_unavailable_reason
from kernels.dispatch import SMALLEST_CHUNK
from kernels.engine import Engine, EngineError
from kernels.forest.forest import Forest, load_forest
from kernels.plan.plan import Input, Neighbours, Plan, Product, Ratio, References
from tests.kernels.hardware import PREFERRED, Hardware, known, line
from tests.kernels.plan.by_hand import by_hand
from tests.kernels.plan.plans import EVERY_REFERENCE, california, stored
from tests.support import ROOT

PLAN = Plan(
    inputs=(Input(name="a"), Input(name="b")),
    steps=(
        Ratio(output="a per b", numerator="a", denominator="b"),
        Product(output="area", left="a", right="b"),
    ),
    outputs=("a", "a per b", "area"),
)
ROWS = np.random.default_rng(5).uniform(1, 9, (40, 2))


def booster(names: list[str] | str = "auto", columns: int = 3, **changes: object) -> lgb.Booster:
    X = np.random.default_rng(6).uniform(0, 9, (300, columns))
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1, **changes}
    data = lgb.Dataset(X, X.sum(axis=1), feature_name=names, params=settings, free_raw_data=False)
    return lgb.train(settings, data, 5)


@pytest.fixture(scope="module")
def forest() -> Forest:
    return Forest.from_booster(booster(["a", "a_per_b", "area"]))


def accelerated(forest: Forest, hardware: Hardware) -> Engine:
    """An engine, warmed up by one call, that prefers the hardware."""
    engine = Engine(forest, PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS[:1], PREFERRED)
    return engine


def many(rows: int) -> NDArray[np.float64]:
    """float64[rows, 2]"""
    return np.random.default_rng(7).uniform(1, 9, (rows, 2))


def expected(forest: Forest, rows: np.ndarray) -> np.ndarray:
    features = np.stack([rows[:, 0], rows[:, 0] / rows[:, 1], rows[:, 0] * rows[:, 1]], axis=1)
    return forest.predict(features.astype(np.float32))


def test_predicts_on_the_plan_s_features_in_float32(forest: Forest) -> None:
    engine = Engine(forest, PLAN, device="cpu")
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))
    features = engine.transform(ROWS)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(engine.predict(ROWS, raw_score=True), forest.predict(features, raw_score=True))
    assert engine.input_names == ("a", "b")
    assert engine.n_inputs == 2


def test_without_a_plan_the_forest_sees_the_raw_float64() -> None:
    forest = Forest.from_booster(booster())
    engine = Engine(forest)
    threshold = float(forest.predicates.thresholds[0])
    # Rounded to float32, the two sides of a threshold would be one.
    rows = np.repeat([[threshold], [np.nextafter(threshold, np.inf)]], 3, axis=1)
    np.testing.assert_array_equal(engine.predict(rows), forest.predict(rows))
    assert engine.input_names == ("Column_0", "Column_1", "Column_2")


@pytest.mark.parametrize("plan", [None, PLAN])
def test_no_rows_give_no_predictions(plan: Plan | None) -> None:
    engine = Engine(Forest.from_booster(booster()), plan)
    assert engine.predict(np.empty((0, engine.n_inputs))).shape == (0,)


@pytest.mark.parametrize("plan", [None, PLAN])
def test_refuses_another_number_of_columns(plan: Plan | None) -> None:
    engine = Engine(Forest.from_booster(booster()), plan)
    with pytest.raises(ValueError, match=r"expected .* got "):
        engine.predict(np.zeros((1, 7)))


TABLE = stored(EVERY_REFERENCE)
PLACES = california(360)[300:]


def referring(seed: int = 1, columns: int = len(EVERY_REFERENCE.outputs)) -> Forest:
    """A forest over the features of `EVERY_REFERENCE`."""
    random = np.random.default_rng(seed)
    X = random.normal(0, 5, (300, columns))
    names = [EVERY_REFERENCE.outputs[place] for place in range(columns)]
    data = lgb.Dataset(X, X @ random.normal(size=columns), feature_name=names, free_raw_data=False)
    return Forest.from_booster(lgb.train({"objective": "regression", "verbosity": -1, "num_threads": 1}, data, 5))


def test_evaluates_prediction_difficulty_and_distance() -> None:
    forest, difficulty = referring(), referring(2)
    engine = Engine(forest, EVERY_REFERENCE, TABLE, difficulty, device="cpu")
    features = engine.transform(PLACES)
    np.testing.assert_allclose(features, by_hand(EVERY_REFERENCE, PLACES, TABLE), rtol=1e-4, atol=1e-4)
    prediction, error, distance, *unasked = engine.evaluate(PLACES)
    assert unasked == [None, None, None]
    np.testing.assert_array_equal(prediction, forest.predict(features))
    np.testing.assert_array_equal(prediction, engine.predict(PLACES))
    np.testing.assert_array_equal(error, difficulty.predict(features))
    np.testing.assert_array_equal(distance, features[:, EVERY_REFERENCE.outputs.index("near_nearest")])
    assert distance is not None
    assert distance.dtype == np.float32
    assert engine.outside_distance == 4.0
    assert not np.array_equal(prediction, error)


def test_what_a_model_does_not_tell_is_none(forest: Forest) -> None:
    engine = Engine(forest, PLAN)
    assert engine.outside_distance is None
    assert set(engine.evaluate(ROWS)[1:]) == {None}
    bare = Engine(forest, difficulty=forest)
    evaluation = bare.evaluate(np.ones((2, 3)))
    np.testing.assert_array_equal(evaluation.prediction, evaluation.difficulty)
    assert evaluation.distance is None


def test_a_step_without_a_limit_tells_no_distance_and_a_limit_of_zero_does(forest: Forest) -> None:
    for limit in (None, 0.0):
        step = Neighbours(output="n", inputs=("a",), scales=(1.0,), outside_distance=limit)
        references = References(rows=2, columns=("a", "target"), steps=(step,))
        plan = Plan(inputs=PLAN.inputs, references=references, outputs=("a", "b", "n_nearest"))
        engine = Engine(Forest.from_booster(booster()), plan, np.array([[1.0, 0.0], [4.0, 0.0]]))
        assert engine.outside_distance == limit
        distance = engine.evaluate(np.array([[5.5, 0.0], [np.nan, 0.0]])).distance
        if limit is None:
            assert distance is None
        else:
            np.testing.assert_array_equal(distance, [1.5, np.nan])


def test_no_rows_are_evaluated_to_nothing() -> None:
    evaluation = Engine(referring(), EVERY_REFERENCE, TABLE, referring(2)).evaluate(np.empty((0, 4)))
    for part in (evaluation.prediction, evaluation.difficulty, evaluation.distance):
        assert part is not None
        assert part.shape == (0,)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "references need a table"),
        (TABLE[1:], r"must be float64\[300, 6\], got float64\[299, 6\]"),
        (TABLE[:, 1:], r"got float64\[300, 5\]"),
        (TABLE.astype(np.float32), r"got float32\[300, 6\]"),
        (np.where(TABLE[5, 1] == TABLE, np.nan, TABLE), "row 5, column 'lat' of the table is not finite"),
    ],
    ids=["none", "rows", "columns", "float32", "nan"],
)
def test_refuses_a_table_that_is_not_the_plan_s(table: NDArray[np.float64] | None, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        Engine(referring(), EVERY_REFERENCE, table)


@pytest.mark.parametrize("plan", [None, PLAN], ids=["no plan", "no references"])
def test_refuses_a_table_that_nothing_reads(forest: Forest, plan: Plan | None) -> None:
    with pytest.raises(EngineError, match=r"table of stored rows needs a plan|there is a table"):
        Engine(forest, plan, TABLE)


def test_refuses_a_difficulty_forest_of_other_features_or_outputs(forest: Forest) -> None:
    with pytest.raises(EngineError, match="takes other features than the booster"):
        Engine(forest, PLAN, difficulty=Forest.from_booster(booster(["a", "area", "a_per_b"])))
    with pytest.raises(EngineError, match="takes other features than the booster"):
        Engine(forest, PLAN, difficulty=referring(columns=4))
    X = np.random.default_rng(6).uniform(0, 9, (300, 3))
    settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    data = lgb.Dataset(X, X.argmax(axis=1), feature_name=["a", "a_per_b", "area"])
    classes = Forest.from_booster(lgb.train(settings, data, 2))
    for main, second in ((classes, forest), (forest, classes), (classes, classes)):
        with pytest.raises(EngineError, match="must have one output"):
            Engine(main, PLAN, difficulty=second)


def test_a_backend_that_fails_is_replaced_where_there_are_references_too() -> None:
    hardware = Hardware(fails_after=2)
    engine = Engine(referring(), EVERY_REFERENCE, TABLE, referring(2), backends=[hardware, CpuBackend()])
    want = Engine(referring(), EVERY_REFERENCE, TABLE, referring(2), device="cpu").evaluate(PLACES)
    engine.warm_up(PLACES, PREFERRED)
    for _ in range(3):
        for part, expected_part in zip(engine.evaluate(PLACES), want, strict=True):
            np.testing.assert_array_equal(part, expected_part)
    assert hardware.calls == 3  # once in warm-up, once well, once in vain
    assert engine.status().disabled == "cuda"


def test_refuses_a_plan_that_makes_another_number_of_features() -> None:
    with pytest.raises(EngineError, match="makes 3 features, the booster takes 2"):
        Engine(Forest.from_booster(booster(columns=2)), PLAN)


def test_refuses_a_plan_whose_features_have_other_names() -> None:
    with pytest.raises(EngineError, match=r"feature 1 .*'a per b'.*'area'"):
        Engine(Forest.from_booster(booster(["a", "area", "a_per_b"])), PLAN)


def test_a_booster_without_names_takes_the_plan_s_order() -> None:
    Engine(Forest.from_booster(booster()), PLAN)


def test_cost_is_unknown_before_it_is_measured(forest: Forest) -> None:
    assert Engine(forest, PLAN, device="cpu").cost(1) == np.inf


def test_warm_up_measures_every_backend(forest: Forest) -> None:
    engine = Engine(forest, PLAN, backends=[Hardware(), CpuBackend()])
    engine.warm_up(ROWS[:3])
    status = engine.status()
    assert set(status.backends) == {"cuda", "cpu"}
    assert all(backend.cost is not None and backend.cost.of(1) > 0 for backend in status.backends.values())
    assert {name: backend.device for name, backend in status.backends.items()} == {
        "cuda": "NVIDIA H100",
        "cpu": CpuBackend().device,
    }
    assert engine.costs() == {backend.device: backend.cost for backend in status.backends.values()}
    assert status.disabled is None
    assert 0 < engine.cost(1) <= engine.cost(10_000)


def test_costs_that_are_known_for_all_devices_are_not_measured(forest: Forest) -> None:
    hardware = Hardware()
    engine = accelerated(forest, hardware)
    assert hardware.batches == [1]
    assert engine.costs() == PREFERRED


def test_costs_are_measured_again_unless_all_are_known(forest: Forest) -> None:
    hardware = Hardware()
    engine = Engine(forest, PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS, {Hardware.device: Cost((1,), (123.0,))})
    assert hardware.calls > 1
    assert engine.costs()[Hardware.device].of(1) < 123


def test_a_batch_goes_to_the_backend_that_is_cheaper_for_its_size(forest: Forest) -> None:
    hardware = Hardware()
    engine = Engine(forest, PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS, known(line(1e-3, 1e-6), line(1e-6, 1e-4)))
    before = hardware.calls
    engine.predict(ROWS[:5])
    assert hardware.calls == before
    engine.predict(ROWS)
    assert hardware.calls == before + 1
    assert (engine.on_device(5), engine.on_device(40)) == (False, True)
    assert engine.cost(5) == pytest.approx(1e-6 + 5e-4)
    assert engine.cost(40) == pytest.approx(1e-3 + 40e-6)


def test_a_device_s_cost_is_measured_up_to_what_it_computes_at_a_time(forest: Forest) -> None:
    hardware = Hardware()
    engine = Engine(forest, PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS)
    costs = engine.costs()
    assert costs[Hardware.device].rows == (*SIZES, 4096, hardware.chunk(engine._everything))
    assert costs[CpuBackend().device].rows == SIZES


@pytest.mark.parametrize(
    ("hardware", "measured"),
    [(Hardware(most_rows=512), (*SIZES,)), (Hardware(most_rows=1500), (*SIZES, 4096, 10_000))],
    ids=["not even the smallest chunk", "in chunks"],
)
def test_a_device_is_measured_as_far_as_its_memory_goes(
    forest: Forest, hardware: Hardware, measured: tuple[int, ...]
) -> None:
    engine = Engine(forest, PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS)
    status = engine.status()
    assert status.disabled is None
    assert status.backends["cuda"].cost is not None
    assert status.backends["cuda"].cost.rows == measured


def test_a_device_that_fails_at_a_large_batch_is_off(forest: Forest) -> None:
    class Small(Hardware):
        def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
            if len(X) > 512:
                raise RuntimeError("an illegal memory access was encountered")
            return super().evaluate(pipeline, X, raw_score)

    engine = Engine(forest, PLAN, backends=[Small(), CpuBackend()])
    engine.warm_up(ROWS)
    assert engine.status().disabled == "cuda"
    assert engine.costs().keys() == {CpuBackend().device}


FLAT = Cost((1, 50_000, 65_536), (0.03, 0.033, 0.04))
"""A device that takes hardly longer for 50,000 rows than for one."""


@pytest.mark.parametrize(
    ("costs", "rows", "chunk"),
    [
        (known(FLAT, line(1e-6, 1e-4)), 10**6, 98_304),  # twice what one row takes, at the last size's pace
        (known(FLAT, line(1e-6, 1e-4)), 1000, 1000),
        (known(FLAT, line(1e-6, 1e-4)), 5, 5),  # the processor's
        (known(FLAT, line(0.0, 2e-6)), 12_000, 10_000),  # likewise
        (known(Cost((1, 65_536), (1e-4, 0.01)), line(1e-6, 1e-4)), 10**6, 131_072),
        (known(Cost((1,), (9.0,)), line(0.0, 1.0)), 8, 1),
    ],
)
def test_chunks_are_sized_for_the_backend_that_gets_them(
    forest: Forest, costs: dict[str, Cost], rows: int, chunk: int
) -> None:
    engine = Engine(forest, PLAN, backends=[Hardware(), CpuBackend()])
    engine.warm_up(ROWS[:1], costs)
    assert engine.chunk(rows, 0.02) == pytest.approx(chunk, abs=1)


def test_what_no_device_can_compute_is_told_and_not_computed(forest: Forest) -> None:
    hardware = Hardware()
    engine = accelerated(forest, hardware)
    evaluation = engine.evaluate_on_device(ROWS)
    assert evaluation is not None
    np.testing.assert_array_equal(evaluation.prediction, expected(forest, ROWS))
    hardware.most_rows = 0
    assert engine.evaluate_on_device(ROWS) is None
    hardware.fails_after = 0
    assert engine.evaluate_on_device(ROWS) is None
    assert engine.status().disabled == "cuda"
    assert engine.evaluate_on_device(ROWS) is None
    assert hardware.batches == [1, 40, 40, 40]
    np.testing.assert_array_equal(engine.evaluate_on_cpu(ROWS).prediction, expected(forest, ROWS))
    assert engine.chunk(10**6, 0.05, on_cpu=True) == pytest.approx(49, abs=1)
    with pytest.raises(ValueError, match="expected"):
        engine.evaluate_on_device(np.zeros((1, 3)))


def test_before_costs_are_known_a_batch_is_one_chunk_for_the_processor(forest: Forest) -> None:
    engine = Engine(forest, PLAN, backends=[Hardware(), CpuBackend()])
    assert engine.chunk(10**6, 0.02) == 10**6
    assert engine.chunk(0, 0.02) == 1
    assert not engine.on_device(10**6)


def test_a_closed_engine_frees_its_devices_and_the_cpu_answers(forest: Forest) -> None:
    hardware = Hardware()
    engine = accelerated(forest, hardware)
    before = hardware.calls
    engine.close()
    engine.close()
    assert hardware.closed
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))
    assert hardware.calls == before
    assert engine.status().disabled is None
    assert set(engine.status().backends) == {"cpu"}


def test_a_call_that_meets_the_closing_is_answered_by_the_cpu(forest: Forest) -> None:
    class Closing(Hardware):
        def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
            if len(X) == 2:
                engine.close()
                raise RuntimeError("the backend is closed")
            return super().evaluate(pipeline, X, raw_score)

    engine = accelerated(forest, Closing())
    np.testing.assert_array_equal(engine.predict(ROWS[:2]), expected(forest, ROWS[:2]))
    assert engine.status().disabled is None


def test_a_backend_that_fails_is_latched_off_and_its_batch_answered(forest: Forest) -> None:
    hardware = Hardware(fails_after=1)
    engine = accelerated(forest, hardware)
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))
    calls = hardware.calls
    hardware.fails_after = None  # the context is poisoned: that it would answer again does not count
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))
    assert hardware.calls == calls
    status = engine.status()
    assert (status.disabled, status.disabled_device) == ("cuda", "NVIDIA H100")
    assert status.disabled_reason == "RuntimeError: an illegal memory access was encountered"
    assert set(status.backends) == set(engine.status().backends) == {"cpu"}
    assert hardware.closed == 1
    assert engine.costs().keys() == {CpuBackend().device}
    assert engine.cost(40) == pytest.approx(1e-3 + 40e-3)


@pytest.mark.parametrize(
    "hardware",
    [Hardware(fails_to_warm_up=True), Hardware(fails_after=0), Hardware(fails_after=3)],
    ids=["compiling", "at once", "while measured"],
)
def test_a_backend_that_fails_in_warm_up_is_latched_off(forest: Forest, hardware: Hardware) -> None:
    engine = Engine(forest, PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS)
    assert engine.status().disabled == "cuda"
    assert set(engine.status().backends) == {"cpu"}
    assert engine.cost(1) < np.inf
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))


@pytest.mark.parametrize(
    "message",
    [
        "CUDA driver version is insufficient for CUDA runtime version",
        "[222] Call to cuLinkAddData results in CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    ],
    ids=["driver", "ptx"],
)
@pytest.mark.parametrize("when", ["warm_up", "evaluate"])
def test_an_old_driver_leaves_the_cpu_from_the_start_and_is_the_reason(
    forest: Forest, monkeypatch: pytest.MonkeyPatch, message: str, when: str
) -> None:
    class CudaSupportError(Exception):
        """As numba-cuda names it, which need not be installed."""

    def fail(*_: object) -> None:
        raise CudaSupportError(message)

    hardware = Hardware()
    monkeypatch.setattr(hardware, when, fail)
    engine = accelerated(forest, hardware)
    status = engine.status()
    assert (status.disabled, status.disabled_reason) == ("cuda", f"CudaSupportError: {message}")
    assert set(status.backends) == {"cpu"}
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))


def test_how_a_backend_died_is_told_and_not_what_the_next_ones_saw_of_it(forest: Forest) -> None:
    class Dying(Hardware):
        def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
            if len(X) == 2:  # another batch fails before this one does
                engine.predict(ROWS[:3])
                raise RuntimeError("the context is destroyed")
            return super().evaluate(pipeline, X, raw_score)

    engine = accelerated(forest, Dying(fails_after=1))
    np.testing.assert_array_equal(engine.predict(ROWS[:2]), expected(forest, ROWS[:2]))
    assert engine.status().disabled_reason == "RuntimeError: an illegal memory access was encountered"


def test_a_device_that_ran_out_of_memory_gets_smaller_chunks(forest: Forest) -> None:
    hardware = Hardware(most_rows=3000)
    engine = accelerated(forest, hardware)
    rows = many(9001)
    np.testing.assert_array_equal(engine.predict(rows), expected(forest, rows))
    assert hardware.batches == [1, 9001, 4500, *[2250] * 4, 1]
    hardware.batches.clear()
    hardware.most_rows = None
    np.testing.assert_array_equal(engine.predict(rows[:5000]), expected(forest, rows[:5000]))
    assert hardware.batches == [2250, 2250, 500]
    status = engine.status()
    assert status.disabled is None
    assert (status.backends["cuda"].largest_chunk, status.backends["cuda"].out_of_memory) == (2250, 2)
    assert (status.backends["cpu"].largest_chunk, status.backends["cpu"].out_of_memory) == (None, 0)


@given(rows=st.integers(0, 6000), most_rows=st.integers(0, 6000), raw_score=st.booleans())
def test_whatever_the_memory_every_row_is_answered_in_its_place(
    forest: Forest, rows: int, most_rows: int, raw_score: bool
) -> None:
    hardware = Hardware(most_rows=most_rows)
    engine = accelerated(forest, hardware)
    hardware.batches.clear()
    X = many(rows)
    want = Engine(forest, PLAN, device="cpu").predict(X, raw_score)
    for _ in range(2):
        np.testing.assert_array_equal(engine.predict(X, raw_score), want)
    refused = [batch for batch in hardware.batches if batch > most_rows]
    status = engine.status()
    assert status.disabled is None
    assert status.backends["cuda"].out_of_memory == len(refused) + (most_rows == 0)
    chunk = status.backends["cuda"].largest_chunk
    assert chunk is None or SMALLEST_CHUNK <= chunk < rows
    if refused and most_rows >= 2 * SMALLEST_CHUNK:
        assert chunk is not None
        assert most_rows // 2 <= chunk <= most_rows


def test_a_batch_that_began_larger_does_not_enlarge_the_chunks_of_others(forest: Forest) -> None:
    class Filling(Hardware):
        def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
            if len(X) == 9000:  # before this batch is refused, less memory was free
                self.most_rows = 1500
                engine.predict(X[:2400])
                self.most_rows = 5000
            return super().evaluate(pipeline, X, raw_score)

    engine = accelerated(forest, Filling())
    rows = many(9000)
    np.testing.assert_array_equal(engine.predict(rows), expected(forest, rows))
    assert engine.status().backends["cuda"].largest_chunk == 1200


def test_chunks_are_joined_in_all_their_parts() -> None:
    forest, difficulty, places = referring(), referring(2), np.resize(PLACES, (2 * SMALLEST_CHUNK + 100, 4))
    hardware = Hardware(most_rows=SMALLEST_CHUNK + 50)
    engine = Engine(forest, EVERY_REFERENCE, TABLE, difficulty, backends=[hardware, CpuBackend()])
    engine.warm_up(PLACES, PREFERRED)
    want = Engine(forest, EVERY_REFERENCE, TABLE, difficulty, device="cpu").evaluate(places)
    for part, expected_part in zip(engine.evaluate(places), want, strict=True):
        np.testing.assert_array_equal(part, expected_part)
    assert hardware.batches[-2:] == [SMALLEST_CHUNK + 50] * 2


def test_the_cpu_answers_a_batch_that_fits_in_no_chunk(forest: Forest, caplog: pytest.LogCaptureFixture) -> None:
    hardware = Hardware()
    engine = accelerated(forest, hardware)
    hardware.most_rows = 0
    rows = many(5000)
    with caplog.at_level(logging.WARNING):
        for batch in (rows, rows, rows[:1]):
            np.testing.assert_array_equal(engine.predict(batch), expected(forest, batch))
    assert hardware.batches == [1, 5000, 2500, 1250, 1250, 1]
    status = engine.status()
    assert status.disabled is None
    assert status.backends["cuda"].out_of_memory == 5
    assert [record.message for record in caplog.records] == ["device ran out of memory"]
    hardware.most_rows = None  # another process let go of the memory
    np.testing.assert_array_equal(engine.predict(rows), expected(forest, rows))
    assert hardware.batches[6:] == [1250] * 4


def test_a_device_without_memory_at_the_start_stays_and_has_no_cost(forest: Forest) -> None:
    hardware = Hardware(most_rows=0)
    engine = Engine(forest, PLAN, backends=[hardware, CpuBackend()])
    engine.warm_up(ROWS)
    status = engine.status()
    assert status.disabled is None
    assert status.backends["cuda"].cost is not None
    assert status.backends["cuda"].out_of_memory == hardware.calls
    assert engine.costs().keys() == {CpuBackend().device}
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))


def test_a_failure_among_chunks_leaves_the_whole_batch_to_the_cpu(forest: Forest) -> None:
    hardware = Hardware(most_rows=3000, fails_after=4)
    engine = accelerated(forest, hardware)
    rows = many(9000)
    np.testing.assert_array_equal(engine.predict(rows), expected(forest, rows))
    assert hardware.batches == [1, 9000, 4500, 2250, 2250]
    assert engine.status().disabled == "cuda"
    np.testing.assert_array_equal(engine.predict(rows), expected(forest, rows))
    assert hardware.calls == 5


def test_a_wrong_request_is_not_the_backend_s_fault(forest: Forest) -> None:
    engine = accelerated(forest, Hardware())
    with pytest.raises(ValueError, match="expected"):
        engine.predict(np.zeros((1, 3)))
    assert engine.status().disabled is None


def test_an_error_of_the_cpu_is_raised(forest: Forest) -> None:
    class Broken(CpuBackend):
        def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
            raise MemoryError

    for backends in ([Broken()], [Hardware(fails_after=0), Broken()]):
        engine = Engine(forest, PLAN, backends=backends)
        with pytest.raises(MemoryError):
            engine.predict(ROWS)
        with pytest.raises(MemoryError):
            engine.warm_up(ROWS)


def test_threads_at_once_all_get_answers_while_a_backend_dies(forest: Forest) -> None:
    engine = accelerated(forest, Hardware(fails_after=20))
    want, good, together = expected(forest, ROWS), [], threading.Barrier(4)

    def work() -> None:
        together.wait()
        good.extend(np.array_equal(engine.predict(ROWS), want) for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 100
    assert engine.status().disabled == "cuda"


def test_cuda_that_is_insisted_on_and_absent_is_refused_with_the_reason(
    forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels.cuda.availability.cuda_unavailable_reason", lambda: "the driver is asleep")
    with pytest.raises(EngineError, match="the driver is asleep"):
        Engine(forest, PLAN, device="cuda")
    status = Engine(forest, PLAN, device="auto").status()
    assert set(status.backends) == {"cpu"}
    assert status.disabled is None


def test_a_forest_that_no_gpu_kernel_can_hold_stays_on_the_cpu(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.cuda.availability.cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr("kernels.cuda.layout.MAX_COLUMNS", 2)
    status = Engine(forest, PLAN).status()
    assert set(status.backends) == {"cpu"}
    assert status.disabled is None
    with pytest.raises(EngineError, match="3 columns, and a GPU's layout 2 at most"):
        Engine(forest, PLAN, device="cuda")


@pytest.mark.parametrize("fails", ["to be made", "to tell its name"])
def test_a_gpu_that_vanishes_before_it_can_be_used_is_off_with_the_reason(
    forest: Forest, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def vanish(_: object) -> None:
        raise CudaUnavailableError("the CUDA driver lists no device")

    monkeypatch.setattr("kernels.cuda.availability.cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr(
        "kernels.cuda.backend.CudaBackend.__init__", vanish if fails == "to be made" else lambda _: None
    )
    monkeypatch.setattr("kernels.cuda.backend.CudaBackend.device", property(vanish))
    with pytest.raises(EngineError, match="lists no device"):
        Engine(forest, PLAN, device="cuda")
    engine = Engine(forest, PLAN)
    engine.warm_up(ROWS)
    status = engine.status()
    assert (status.disabled, status.disabled_device) == ("cuda", None)
    assert status.disabled_reason == "CudaUnavailableError: the CUDA driver lists no device"
    assert set(status.backends) == {"cpu"}
    np.testing.assert_array_equal(engine.predict(ROWS), expected(forest, ROWS))


def test_a_model_that_lightgbm_evaluates_uses_the_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = booster(["a", "a_per_b", "area"], linear_tree=True)
    forest = load_forest(linear.model_to_string())
    monkeypatch.setattr("kernels.cuda.availability.cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr("kernels.cuda.backend.CudaBackend.__init__", lambda _: pytest.fail("no GPU is wanted"))
    engine = Engine(forest, PLAN)
    engine.warm_up(ROWS)
    np.testing.assert_array_equal(engine.predict(ROWS), linear.predict(engine.transform(ROWS)))
    status = engine.status()
    assert set(status.backends) == {"cpu"}
    assert status.disabled is None
    assert (status.forest.evaluator, status.forest.few_rows, status.forest.many_rows) == ("lightgbm", None, None)
    assert "linear" in str(status.forest.reason)
    for forests in ((forest, None), (Forest.from_booster(booster(["a", "a_per_b", "area"])), forest)):
        with pytest.raises(EngineError, match="LightGBM evaluates this kind of model"):
            Engine(forests[0], PLAN, difficulty=forests[1], device="cuda")


def test_the_status_tells_how_both_forests_are_evaluated(forest: Forest) -> None:
    engine = Engine(forest, PLAN, difficulty=forest)
    assert engine.status().forest == engine.status().difficulty == forest.status
    assert forest.status.evaluator == "kernels"
    assert Engine(forest, PLAN).status().difficulty is None


@pytest.mark.skipif(cuda_unavailable_reason() is None, reason="there is a GPU")
def test_what_is_missing_here_is_the_reason(forest: Forest) -> None:
    with pytest.raises(EngineError) as caught:
        Engine(forest, PLAN, device="cuda")
    assert str(cuda_unavailable_reason()) in str(caught.value)


@pytest.mark.parametrize(
    "hidden",
    [
        pytest.param([], id="installed or not", marks=pytest.mark.slow),
        pytest.param(["numba_cuda", "numba.cuda"], id="absent"),
    ],
)
def test_importing_and_running_on_the_cpu_loads_no_cuda(hidden: list[str]) -> None:
    script = f"""
import sys
for name in {hidden}:
    sys.modules[name] = None
import numpy, kernels.cuda.backend
from kernels.engine import Engine
from kernels.forest.forest import Forest
from kernels.plan.plan import Input, Plan
plan = Plan(inputs=(Input(name="a"),), outputs=("a",))
engine = Engine(Forest.from_model_text(sys.stdin.read()), plan, device="cpu")
engine.warm_up(numpy.ones((1, 1)))
engine.predict(numpy.ones((1, 1)))
loaded = [name for name, module in sys.modules.items() if module and name.startswith(("numba.cuda", "numba_cuda"))]
assert not loaded, loaded
if {hidden}:
    assert kernels.cuda.availability.cuda_unavailable_reason() is not None
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        input=booster(columns=1).model_to_string(),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
