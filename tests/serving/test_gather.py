"""What comes while a device is busy goes to it together, and everybody gets the answers to their own rows."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import lightgbm as lgb
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.models.served import ServedModel
from app.serving import gather
from app.serving.executor import Executor
from app.serving.gather import GatherQueue
from app.telemetry.metrics import Metrics
from kernels.backend import Outcome, Pipeline
from kernels.cost import Cost
from kernels.cpu.backend import CpuBackend
from kernels.engine import Engine, Evaluation
from tests.kernels.hardware import Hardware, known, line
from tests.models.support import save_booster, serve, tiny_booster, tiny_rows
from tests.support import come_true

WITHIN_S = 20.0

Array = NDArray[np.float64]


class DeviceError(Exception):
    """What a device raises for rows that it cannot take."""


class Device:
    """An engine that is busy with its first batch until it is let go on; it doubles what is in its rows.

    Args:
        culprits: Numbers whose rows make a batch fail.
        gathers: Whether it says that batches are for a device.
    """

    def __init__(self, culprits: Iterable[float] = (), *, gathers: bool = True) -> None:
        self.batches: list[list[float]] = []
        self._gathers = gathers
        self._culprits = set(culprits)
        self._free = threading.Event()

    def cost(self, rows: int) -> float:
        """What a processor hands over, and a device's queue takes."""
        return 0.0 if self._gathers else 1.0

    def on_device(self, rows: int) -> bool:
        return self._gathers

    def chunk(self, rows: int, seconds: float, *, on_cpu: bool = False) -> int:
        return rows

    def go_on(self) -> None:
        self._free.set()

    def evaluate_on_cpu(self, rows: Array) -> Evaluation:
        return self.evaluate(rows)

    def evaluate_on_device(self, rows: Array) -> Evaluation:
        return self.evaluate(rows)

    def evaluate(self, rows: Array) -> Evaluation:
        self.batches.append(rows[:, 0].tolist())
        assert self._free.wait(WITHIN_S)
        if bad := self._culprits.intersection(rows[:, 0]):
            raise DeviceError(min(bad))
        return Evaluation(2 * rows[:, 0], None, rows[:, 0].astype(np.float32))


def rows_of(*numbers: float) -> Array:
    return np.array(numbers, np.float64)[:, None]


Ask = Callable[[Any, Array], Any]


async def while_busy(device: Device, ask: Ask, requests: list[Array]) -> list[asyncio.Task[Evaluation]]:
    """Requests that came while a device was busy with one row, -1."""
    tasks = [asyncio.create_task(ask(device, rows_of(-1)))]
    await come_true(lambda: device.batches)
    tasks += [asyncio.create_task(ask(device, rows)) for rows in requests]
    await asyncio.sleep(0)
    return tasks


async def answers(device: Device, tasks: list[asyncio.Task[Evaluation]]) -> list[Any]:
    """The predictions, or the error, that each task gets when the device goes on."""
    device.go_on()
    async with asyncio.timeout(WITHIN_S):
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [one.prediction.tolist() if isinstance(one, Evaluation) else one for one in ended]


@pytest.fixture
def queue() -> Any:
    queue = GatherQueue()
    yield queue
    queue.close()


async def test_requests_during_a_busy_device_are_batched(queue: GatherQueue) -> None:
    device = Device()
    tasks = await while_busy(device, queue.evaluate, [rows_of(1, 2), rows_of(3), rows_of(4, 5, 6)])
    assert await answers(device, tasks) == [[-2], [2, 4], [6], [8, 10, 12]]
    assert device.batches == [[-1], [1, 2, 3, 4, 5, 6]]


async def test_an_evaluation_is_divided_and_none_stays_none(queue: GatherQueue) -> None:
    device = Device()
    tasks = await while_busy(device, queue.evaluate, [rows_of(1, 2), rows_of(3)])
    await answers(device, tasks)
    evaluation = tasks[1].result()
    assert evaluation.difficulty is None
    assert evaluation.distance is not None
    assert (evaluation.distance.tolist(), evaluation.distance.dtype) == ([1, 2], np.float32)


async def test_a_single_request_does_not_wait(queue: GatherQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def wait(when: float, *arguments: Any, **context: Any) -> asyncio.TimerHandle:
        waits.append(when)
        return call_at(when, *arguments, **context)

    monkeypatch.setattr(loop, "call_at", wait)
    device = Device()
    device.go_on()
    evaluation = await queue.evaluate(cast(Engine, device), rows_of(1, 2))
    assert (evaluation.prediction.tolist(), device.batches, waits) == ([2, 4], [[1, 2]], [])


async def test_sequential_requests_are_not_batched(queue: GatherQueue) -> None:
    device = Device()
    device.go_on()
    for number in range(5):
        assert (await queue.evaluate(cast(Engine, device), rows_of(number))).prediction.tolist() == [2 * number]
    assert device.batches == [[0], [1], [2], [3], [4]]


@given(sizes=st.lists(st.integers(1, 12), max_size=20), largest=st.integers(1, 16))
def test_requests_get_their_own_results_in_bounded_batches(sizes: list[int], largest: int) -> None:
    ends = np.cumsum(sizes, dtype=int).tolist()
    requests = [rows_of(*range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    device = Device()

    async def ask() -> list[Any]:
        queue = GatherQueue()
        try:
            return await answers(device, await while_busy(device, queue.evaluate, requests))
        finally:
            queue.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "LARGEST_BATCH", largest)
        got = asyncio.run(ask())
    assert got[1:] == [(2 * rows[:, 0]).tolist() for rows in requests]
    batches = device.batches[1:]
    assert [number for batch in batches for number in batch] == list(range(sum(sizes)))
    assert all(len(batch) <= largest or len(batch) in sizes for batch in batches)
    firsts = [sizes[[0, *ends].index(batch[0])] for batch in batches]
    assert all(len(batch) + first > largest for batch, first in zip(batches, firsts[1:], strict=False))


async def test_requests_for_different_engines_are_not_batched(queue: GatherQueue) -> None:
    old, new = Device(), Device()
    new.go_on()
    requests = [(old, 1), (old, 2), (new, 3), (new, 4), (old, 5)]
    tasks = await while_busy(old, queue.evaluate, [])
    tasks += [asyncio.create_task(queue.evaluate(cast(Engine, device), rows_of(row))) for device, row in requests]
    await asyncio.sleep(0)
    assert await answers(old, tasks) == [[-2], [2], [4], [6], [8], [10]]
    assert (old.batches, new.batches) == ([[-1], [1, 2], [5]], [[3, 4]])


async def test_rows_of_cancelled_requests_are_not_computed(queue: GatherQueue) -> None:
    device = Device()
    tasks = await while_busy(device, queue.evaluate, [rows_of(number) for number in range(6)])
    for task in (tasks[1], tasks[3], tasks[6]):
        task.cancel()
    await asyncio.sleep(0)
    got = await answers(device, tasks)
    assert [one for one in got if isinstance(one, list)] == [[-2], [2], [6], [8]]
    assert [type(got[index]) for index in (1, 3, 6)] == [asyncio.CancelledError] * 3
    assert device.batches == [[-1], [1, 3, 4]]


async def test_nothing_is_computed_when_all_are_cancelled(queue: GatherQueue) -> None:
    device = Device()
    tasks = await while_busy(device, queue.evaluate, [rows_of(1), rows_of(2)])
    for task in tasks:
        task.cancel()
    await answers(device, tasks)
    assert (await queue.evaluate(cast(Engine, device), rows_of(3))).prediction.tolist() == [6]
    assert device.batches == [[-1], [3]]


async def test_cancelling_one_running_request_leaves_the_others(queue: GatherQueue) -> None:
    computing, free = threading.Event(), threading.Event()

    class Slow(Device):
        def evaluate(self, rows: Array) -> Evaluation:
            if len(rows) > 1:
                computing.set()
                assert free.wait(WITHIN_S)
            return super().evaluate(rows)

    device = Slow()
    tasks = await while_busy(device, queue.evaluate, [rows_of(1), rows_of(2), rows_of(3)])
    device.go_on()
    await come_true(computing.is_set)
    tasks[2].cancel()
    await asyncio.sleep(0)
    free.set()
    got = await answers(device, tasks)
    assert isinstance(got.pop(2), asyncio.CancelledError)
    assert got == [[-2], [2], [6]]


@given(count=st.integers(1, 9), data=st.data())
def test_only_the_request_at_fault_gets_the_error(count: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2))
    device = Device(culprits)

    async def ask() -> list[Any]:
        queue = GatherQueue()
        try:
            tasks = await while_busy(device, queue.evaluate, [rows_of(number) for number in range(count)])
            got = await answers(device, tasks)
            assert (await queue.evaluate(cast(Engine, device), rows_of(99))).prediction.tolist() == [198]
            return got
        finally:
            queue.close()

    got = asyncio.run(ask())[1:]
    assert [error.args for error in got if isinstance(error, DeviceError)] == [(one,) for one in sorted(culprits)]
    assert [one for one in got if isinstance(one, list)] == [
        [2.0 * number] for number in range(count) if number not in culprits
    ]


async def test_rows_that_cannot_be_joined_fail_and_the_queue_continues(
    queue: GatherQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError

    device = Device()
    tasks = await while_busy(device, queue.evaluate, [rows_of(1), rows_of(2)])
    monkeypatch.setattr(gather.np, "concatenate", full)
    assert await answers(device, tasks) == [[-2], [2], [4]]  # one by one
    assert (await queue.evaluate(cast(Engine, device), rows_of(3))).prediction.tolist() == [6]


def test_a_closed_queue_raises() -> None:
    async def ask() -> None:
        queue = GatherQueue()
        queue.close()
        async with asyncio.timeout(WITHIN_S):
            await queue.evaluate(cast(Engine, Device()), rows_of(1))

    with pytest.raises(RuntimeError):
        asyncio.run(ask())


@pytest.fixture(scope="module")
def booster() -> lgb.Booster:
    return tiny_booster()


@pytest.fixture(scope="module")
def served(booster: lgb.Booster, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    directory: Path = tmp_path_factory.mktemp("gather") / "model"
    return serve(save_booster(booster, directory))


@pytest.fixture
def executor() -> Any:
    executor = Executor(Metrics())
    yield executor
    executor.close()


def asking(executor: Executor, served: ServedModel) -> Ask:
    """Predict by the way that requests go, with an engine of one's own."""

    async def ask(engine: Engine, rows: Array) -> Evaluation:
        return await executor.predict(msgspec.structs.replace(served, engine=engine), rows, "bulk")

    return ask


async def settled() -> None:
    """Let every task come as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_executor_batches_for_a_device(executor: Executor, served: ServedModel) -> None:
    device = Device()
    tasks = await while_busy(device, asking(executor, served), [rows_of(number) for number in range(10)])
    await settled()
    assert await answers(device, tasks) == [[-2], *([2.0 * number] for number in range(10))]
    assert [sorted(batch) for batch in device.batches] == [[-1], list(range(10))]


async def test_without_a_device_each_request_has_its_own_thread(executor: Executor, served: ServedModel) -> None:
    processor = Device(gathers=False)
    tasks = await while_busy(processor, asking(executor, served), [rows_of(number) for number in range(10)])
    await settled()
    assert await answers(processor, tasks) == [[-2], *([2.0 * number] for number in range(10))]
    assert sorted(processor.batches) == [[-1], *([number] for number in range(10))]


CHEAP = known(line(0.0, 1e-9), line(1e-3, 1e-3))
"""The hardware is preferred, and so cheap that a batch of any size takes it less time than handing it over."""


class Gated(Hardware):
    """Hardware that, once asked to, is busy until it is let go on."""

    def __init__(self, fails_after: int | None = None) -> None:
        super().__init__(fails_after)
        self.free = threading.Event()
        self.free.set()

    def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        try:
            return super().evaluate(pipeline, X, raw_score)
        finally:
            assert self.free.wait(WITHIN_S)


@pytest.mark.parametrize("dies", [False, True])
async def test_a_real_engine_evaluates_batched_rows_like_single_ones(
    executor: Executor, served: ServedModel, booster: lgb.Booster, dies: bool
) -> None:
    hardware = Gated(fails_after=2 if dies else None)  # with the batch that was gathered
    engine = Engine(served.engine.forest, backends=[hardware, CpuBackend()])
    engine.warm_up(tiny_rows()[:1], CHEAP)
    assert engine.on_device(1)
    hardware.free.clear()
    ask = asking(executor, served)
    tasks = [asyncio.create_task(ask(engine, tiny_rows()[:3]))]
    await come_true(lambda: hardware.calls == 2)
    parts = np.split(tiny_rows()[3:], [1, 10, 12])
    tasks += [asyncio.create_task(ask(engine, part)) for part in parts]
    await settled()
    hardware.free.set()
    async with asyncio.timeout(WITHIN_S):
        got = [evaluation.prediction for evaluation in await asyncio.gather(*tasks)]
    np.testing.assert_array_equal(np.concatenate(got), booster.predict(tiny_rows()))
    assert [len(one) for one in got] == [3, *(len(part) for part in parts)]
    assert hardware.batches == [1, 3, 47]
    assert engine.on_device(1) is not dies


class Watched(Hardware):
    """Notes which threads compute with it."""

    def __init__(self, fails_after: int | None = None) -> None:
        super().__init__(fails_after)
        self.threads: set[str] = set()

    def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        self.threads.add(threading.current_thread().name)
        return super().evaluate(pipeline, X, raw_score)


def watched(
    served: ServedModel, costs: dict[str, Cost], fails_after: int | None = None, most_rows: int | None = None
) -> tuple[ServedModel, Watched]:
    """The model, computed by hardware that has seen no batch yet."""
    hardware = Watched()
    engine = Engine(served.engine.forest, backends=[hardware, CpuBackend()])
    engine.warm_up(tiny_rows()[:1], costs)
    hardware.batches.clear()
    hardware.threads.clear()
    hardware.fails_after, hardware.most_rows = fails_after, most_rows
    return msgspec.structs.replace(served, engine=engine), hardware


async def test_a_device_never_runs_on_the_event_loop(executor: Executor, served: ServedModel) -> None:
    model, hardware = watched(served, CHEAP)
    assert not executor.is_cheap(model, 1)
    for count in (1, 50):
        await executor.predict(model, tiny_rows()[:count], "batch")
    await executor.check(model)
    assert (hardware.batches, hardware.threads) == ([1, 50, 1], {"device"})


async def test_cheap_rows_use_the_event_loop_beside_a_device(executor: Executor, served: ServedModel) -> None:
    model, hardware = watched(served, known(Cost((1,), (1e-4,)), Cost((1,), (1e-6,))))
    assert executor.is_cheap(model, 1)
    await executor.predict(model, tiny_rows()[:1], "single")
    assert hardware.calls == 0


TWENTY = known(Cost((1, 20), (1.0, 2.0)), Cost((1,), (9.0,)))
"""Chunks of twenty rows for the hardware, and of two for the processor."""


@pytest.mark.parametrize(
    ("fails_after", "most_rows", "largest", "batches", "in_threads"),
    [
        (None, None, 100, [20, 20, 10], 0),
        (None, None, 16, [16, 16, 16, 2], 0),
        (1, None, 100, [20, 20], 15),
        (None, 0, 100, [20, 20, 10], 25),
    ],
    ids=["its own", "of the queue", "until it dies", "without memory"],
)
async def test_threads_take_small_chunks_when_a_device_fails(
    executor: Executor,
    served: ServedModel,
    booster: lgb.Booster,
    monkeypatch: pytest.MonkeyPatch,
    fails_after: int | None,
    most_rows: int | None,
    largest: int,
    batches: list[int],
    in_threads: int,
) -> None:
    model, hardware = watched(served, TWENTY, fails_after, most_rows)
    rows, threads = tiny_rows(), []
    executor = Executor(Metrics(), threads=1)  # one chunk after the other
    monkeypatch.setattr("app.serving.executor.LARGEST_BATCH", largest)
    in_thread = executor.in_thread
    monkeypatch.setattr(executor, "in_thread", lambda work: threads.append(len(work.args[1])) or in_thread(work))
    evaluation = await executor.predict(model, rows, "bulk")
    np.testing.assert_array_equal(evaluation.prediction, booster.predict(rows))
    assert (hardware.batches, threads) == (batches, [2] * in_threads)
