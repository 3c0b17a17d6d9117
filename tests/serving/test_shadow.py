"""The shadow scores what was answered, beside the requests, and shows the differences."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.feature import Feature
from app.models.served import ServedModel
from app.models.slot import ModelSlot
from app.serving import shadow as module
from app.serving.shadow import Shadow
from app.serving.share import Share
from app.tasks import BackgroundTasks
from app.telemetry.metrics import DIFFERENCE_BUCKETS, Metrics
from kernels.engine import Engine
from tests.models.support import NAMES, save_booster, serve, tiny_booster, tiny_rows

Array = NDArray[np.float64]


class EngineDouble:
    """An engine that keeps the batches it sees, and predicts what it is told to.

    Args:
        answer: Called with float64[B, F].
        seconds: Cost of a row.
    """

    def __init__(self, answer: Callable[[Array], Array], seconds: float = 1e-6) -> None:
        self.batches: list[Array] = []
        self.threads: set[int] = set()
        self._answer = answer
        self._seconds = seconds

    def chunk(self, rows: int, seconds: float) -> int:
        return min(rows, int(seconds / self._seconds))

    def predict(self, rows: Array) -> Array:
        self.batches.append(rows)
        self.threads.add(threading.get_ident())
        return self._answer(rows)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return serve(save_booster(tiny_booster(), tmp_path_factory.mktemp("shadow") / "model"))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def slot(model: ServedModel) -> ModelSlot:
    """Version 1 in use; version 2 is its shadow, and says 0.25 more of every row."""
    slot = ModelSlot()
    slot.current = model
    slot.shadow = doubled(model, EngineDouble(lambda rows: model.engine.predict(rows) + 0.25))
    return slot


def versioned(model: ServedModel, version: str, **changes: Any) -> ServedModel:
    identity = msgspec.structs.replace(model.identity, version=version)
    return msgspec.structs.replace(model, identity=identity, **changes)


def doubled(model: ServedModel, engine: EngineDouble, version: str = "2") -> ServedModel:
    return versioned(model, version, engine=cast(Engine, engine))


def batches_of(model: ServedModel | None) -> list[Array]:
    assert model is not None
    return cast(EngineDouble, model.engine).batches


def answer(shadow: Shadow, served: ServedModel, rows: Array, request_id: str = "1") -> None:
    shadow.offer(served, rows, served.engine.predict(rows), request_id)


async def score_all(shadow: Shadow) -> None:
    while shadow.queued:
        await shadow.score()


def counted(metrics: Metrics) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value for family in metrics.shadow_rows.collect() for sample in family.samples
    }


def buckets(metrics: Metrics, served: str = "1", shadow: str = "2") -> dict[float, float]:
    """Differences up to each bound; empty where there are none of these two versions."""
    return {
        float(sample.labels["le"]): sample.value
        for family in metrics.shadow_difference.collect()
        for sample in family.samples
        if sample.name.endswith("_bucket")
        and (sample.labels["model_version"], sample.labels["shadow_version"]) == (served, shadow)
    }


def compared(metrics: Metrics, served: str = "1", shadow: str = "2") -> float:
    return buckets(metrics, served, shadow).get(float("inf"), 0)


async def test_the_difference_is_the_shadows_prediction_minus_the_answer(
    slot: ModelSlot, metrics: Metrics, model: ServedModel
) -> None:
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    assert shadow.queued == 50
    await score_all(shadow)
    assert (buckets(metrics)[0.1], buckets(metrics)[1.0]) == (0, 50)
    assert counted(metrics) == {"scored": 50}
    assert shadow.compared == ("2", 50, pytest.approx(12.5), pytest.approx(12.5))
    slot.shadow = doubled(model, EngineDouble(lambda rows: model.engine.predict(rows) - 0.5), version="3")
    answer(shadow, model, tiny_rows())
    await score_all(shadow)
    assert shadow.compared == ("3", 50, pytest.approx(-25.0), pytest.approx(25.0))
    shadow.close()


async def test_every_class_of_every_row_is_compared(metrics: Metrics, tmp_path_factory: pytest.TempPathFactory) -> None:
    booster = tiny_booster(tiny_rows()[:, 2] % 3, objective="multiclass", num_class=3)
    served = serve(save_booster(booster, tmp_path_factory.mktemp("classes") / "model"))
    slot = ModelSlot()
    slot.shadow = doubled(served, EngineDouble(lambda rows: served.engine.predict(rows) + np.array([-2.0, 0.0, 2.0])))
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, served, tiny_rows())
    await score_all(shadow)
    assert [buckets(metrics)[bound] for bound in (-3.0, -1.0, 1.0, 3.0)] == [0, 50, 100, 150]
    assert counted(metrics) == {"scored": 50}
    shadow.close()


async def test_columns_are_matched_by_name_and_absent_ones_are_missing(metrics: Metrics, model: ServedModel) -> None:
    features = (Feature(name="age"), Feature(name="garage", required=False), Feature(name="income"))
    slot = ModelSlot()
    other = doubled(model, EngineDouble(lambda rows: np.zeros(len(rows))))
    slot.shadow = msgspec.structs.replace(other, artifact=msgspec.structs.replace(model.artifact, features=features))
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    await score_all(shadow)
    age, income = tiny_rows()[:, NAMES.index("age")], tiny_rows()[:, NAMES.index("income")]
    [seen] = batches_of(slot.shadow)
    np.testing.assert_array_equal(seen, np.column_stack([age, np.full(50, np.nan), income]))
    shadow.close()


async def test_codes_of_categories_are_those_of_the_shadow(metrics: Metrics, model: ServedModel) -> None:
    def serving(served: ServedModel, *values: str) -> ServedModel:
        age = Feature(name="age", kind="category", categories=values)
        artifact = msgspec.structs.replace(served.artifact, features=(*model.artifact.features[:2], age))
        return msgspec.structs.replace(served, artifact=artifact)

    answering = serving(model, "new", "old", "ruin", "listed")
    slot = ModelSlot()
    slot.shadow = serving(doubled(model, EngineDouble(lambda rows: np.zeros(len(rows)))), "old", "listed", "new")
    shadow = Shadow(slot, metrics, 100)
    rows = tiny_rows()[:5]
    rows[:, 2] = 0, 1, 2, 3, np.nan
    answer(shadow, answering, rows)
    await score_all(shadow)
    [seen] = batches_of(slot.shadow)
    np.testing.assert_array_equal(seen[:, 2], [2, 0, np.nan, 1, np.nan])
    np.testing.assert_array_equal(seen[:, :2], rows[:, :2])
    shadow.close()


async def test_a_feature_that_only_the_shadow_requires_is_an_error(metrics: Metrics, model: ServedModel) -> None:
    slot = ModelSlot()
    other = doubled(model, EngineDouble(lambda rows: np.zeros(len(rows))))
    features = (*model.artifact.features, Feature(name="garage"))
    slot.shadow = msgspec.structs.replace(other, artifact=msgspec.structs.replace(model.artifact, features=features))
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    await score_all(shadow)
    assert (counted(metrics), batches_of(slot.shadow)) == ({"failed": 50}, [])
    shadow.close()


@pytest.mark.parametrize(("seconds", "size"), [(1e-6, 250), (2**-7, 6)])
async def test_rows_of_many_requests_are_scored_in_cheap_chunks(
    metrics: Metrics, model: ServedModel, seconds: float, size: int
) -> None:
    slot = ModelSlot()
    slot.shadow = doubled(model, EngineDouble(lambda rows: model.engine.predict(rows), seconds))
    shadow = Shadow(slot, metrics, 100)
    rows = np.concatenate([tiny_rows()] * 12) * np.linspace(0.5, 2, 600)[:, None]
    for number, batch in enumerate([rows[:1], rows[1:3], rows[3:400], *np.split(rows[400:], 200)]):
        answer(shadow, model, batch, str(number))
    await score_all(shadow)
    assert [len(batch) for batch in batches_of(slot.shadow)] == [size] * (600 // size) + [100] * (size == 250)
    np.testing.assert_array_equal(np.concatenate(batches_of(slot.shadow)), rows)
    assert (buckets(metrics)[-1e-6], buckets(metrics)[1e-6]) == (0, 600)
    shadow.close()


async def test_a_row_larger_than_a_chunk_is_scored_alone(slot: ModelSlot, metrics: Metrics, model: ServedModel) -> None:
    slot.shadow = doubled(model, EngineDouble(lambda rows: np.ones((len(rows), 300))))
    shadow = Shadow(slot, metrics, 100)
    shadow.offer(model, tiny_rows()[:3], np.zeros((3, 300)), "1")
    await score_all(shadow)
    assert [len(batch) for batch in batches_of(slot.shadow)] == [1, 1, 1]
    assert compared(metrics) == 900
    shadow.close()


async def test_answers_of_model_and_canary_are_kept_apart(
    slot: ModelSlot, metrics: Metrics, model: ServedModel
) -> None:
    canary = versioned(model, "3")
    shadow = Shadow(slot, metrics, 100)
    for number in range(6):
        answer(shadow, canary if number % 2 else model, tiny_rows()[: 1 + number % 2], str(number))
    await score_all(shadow)
    assert (compared(metrics, "1"), compared(metrics, "3")) == (3, 6)
    shadow.close()


async def test_nothing_is_queued_without_a_shadow_of_another_version(
    slot: ModelSlot, metrics: Metrics, model: ServedModel
) -> None:
    other = slot.shadow
    shadow = Shadow(slot, metrics, 100)
    slot.shadow = versioned(model, model.identity.version)
    answer(shadow, model, tiny_rows())
    slot.shadow = None
    answer(shadow, model, tiny_rows())
    slot.shadow = other
    answer(shadow, model, tiny_rows()[:0])
    assert (shadow.queued, counted(metrics)) == (0, {})
    answer(shadow, model, tiny_rows()[:1])
    assert shadow.queued == 1
    shadow.close()


async def test_only_requests_of_the_share_are_scored(slot: ModelSlot, metrics: Metrics, model: ServedModel) -> None:
    shadow = Shadow(slot, metrics, 10)
    ids = [str(number) for number in range(1000)]
    for identifier in ids:
        before = shadow.queued
        answer(shadow, model, tiny_rows()[:1], identifier)
        assert shadow.queued - before == (identifier.encode() in Share(10, b"shadow"))
    assert 70 < shadow.queued < 130
    nothing = Shadow(slot, metrics, 0)
    answer(nothing, model, tiny_rows())
    assert (nothing.queued, counted(metrics)) == (0, {})
    shadow.close()
    nothing.close()


async def test_rows_beyond_the_queue_are_dropped_and_counted(
    slot: ModelSlot, metrics: Metrics, model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_ROWS", 60)
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    answer(shadow, model, tiny_rows()[:10], "2")
    assert (shadow.queued, counted(metrics)) == (60, {})
    answer(shadow, model, tiny_rows()[:1], "3")
    answer(shadow, model, tiny_rows(), "4")
    assert (shadow.queued, counted(metrics)) == (60, {"dropped": 51})
    await score_all(shadow)
    answer(shadow, model, tiny_rows()[:1], "5")
    assert (shadow.queued, counted(metrics)) == (1, {"dropped": 51, "scored": 60})
    shadow.close()


@pytest.mark.parametrize(("room", "taken"), [(49, 25), (25, 25), (24, 17), (3, 3), (1, 1)])
async def test_a_large_request_is_sampled_evenly(
    slot: ModelSlot, metrics: Metrics, model: ServedModel, monkeypatch: pytest.MonkeyPatch, room: int, taken: int
) -> None:
    monkeypatch.setattr(module, "QUEUE_ROWS", room)
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    assert (shadow.queued, counted(metrics)) == (taken, {"dropped": 50 - taken})
    await score_all(shadow)
    np.testing.assert_array_equal(np.concatenate(batches_of(slot.shadow)), tiny_rows()[:: -(-50 // room)])
    # Rows go with their own predictions.
    assert (buckets(metrics)[0.1], buckets(metrics)[1.0]) == (0, taken)
    shadow.close()


async def test_queued_rows_are_scored_by_the_newest_shadow(
    slot: ModelSlot, metrics: Metrics, model: ServedModel
) -> None:
    first = slot.shadow
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    slot.shadow = doubled(model, EngineDouble(lambda rows: model.engine.predict(rows)), version="9")
    await score_all(shadow)
    assert (batches_of(first), compared(metrics, "1", "2"), compared(metrics, "1", "9")) == ([], 0, 50)
    shadow.close()


@pytest.mark.parametrize("version", [None, "1"])
async def test_queued_rows_are_dropped_without_a_shadow(
    slot: ModelSlot, metrics: Metrics, model: ServedModel, version: str | None
) -> None:
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    slot.shadow = None if version is None else versioned(model, version)
    await score_all(shadow)
    assert (shadow.queued, counted(metrics), compared(metrics, "1", "1")) == (0, {"dropped": 50}, 0)
    shadow.close()


def broken(rows: Array) -> Array:
    raise RuntimeError("no such leaf")


@pytest.mark.parametrize(
    "wrong", [broken, lambda rows: np.zeros((len(rows), 2)), lambda rows: np.zeros(1)], ids=["raises", "wider", "fewer"]
)
async def test_a_failing_shadow_is_logged_once_per_version(
    slot: ModelSlot,
    metrics: Metrics,
    model: ServedModel,
    wrong: Callable[[Array], Array],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shadow = Shadow(slot, metrics, 100)
    with caplog.at_level(logging.WARNING):
        for version in ("2", "3"):
            slot.shadow = doubled(model, EngineDouble(wrong), version)
            for number in range(2):
                answer(shadow, model, tiny_rows(), str(number))
                await score_all(shadow)
    assert [record.__dict__["shadow_version"] for record in caplog.records] == ["2", "3"]
    assert all(record.exc_info for record in caplog.records)
    assert (counted(metrics), compared(metrics)) == ({"failed": 200}, 0)
    slot.shadow = doubled(model, EngineDouble(model.engine.predict), "4")
    answer(shadow, model, tiny_rows())
    await score_all(shadow)
    assert (counted(metrics), compared(metrics, "1", "4")) == ({"failed": 200, "scored": 50}, 50)
    shadow.close()


async def test_rows_without_a_finite_difference_fail_alone(
    slot: ModelSlot, metrics: Metrics, model: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.array([1.0, np.nan, np.inf, -np.inf, 1e308])
    slot.shadow = doubled(model, EngineDouble(lambda rows: values))
    shadow = Shadow(slot, metrics, 100)
    with caplog.at_level(logging.WARNING):
        shadow.offer(model, tiny_rows()[:5], np.array([0.5, 0.0, np.inf, 0.0, -1e308]), "1")
        await score_all(shadow)
    assert (counted(metrics), compared(metrics), len(caplog.records)) == ({"scored": 1, "failed": 4}, 1, 1)
    shadow.close()


async def test_a_row_fails_if_one_class_is_not_finite(slot: ModelSlot, metrics: Metrics, model: ServedModel) -> None:
    slot.shadow = doubled(model, EngineDouble(lambda rows: np.array([[0.5, np.nan], [0.5, 0.5]])))
    shadow = Shadow(slot, metrics, 100)
    shadow.offer(model, tiny_rows()[:2], np.zeros((2, 2)), "1")
    await score_all(shadow)
    assert (counted(metrics), compared(metrics)) == ({"scored": 1, "failed": 1}, 2)
    shadow.close()


async def test_the_task_survives_a_failure(
    slot: ModelSlot, metrics: Metrics, model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0)
    loop = asyncio.get_running_loop()
    scored = asyncio.Queue[int]()

    def note(rows: Array) -> Array:
        loop.call_soon_threadsafe(scored.put_nowait, len(rows))
        return broken(rows) if len(rows) == 2 else np.zeros(len(rows))

    slot.shadow = doubled(model, EngineDouble(note))
    shadow = Shadow(slot, metrics, 100)
    async with BackgroundTasks(metrics) as tasks:
        tasks.start("shadow", shadow.run)
        for size in (1, 2, 3):
            answer(shadow, model, tiny_rows()[:size], str(size))
            assert await scored.get() == size
            await shadow.score()  # returns only when the task is done with these
            assert shadow.queued == 0
        assert tasks.status["shadow"].restarts == 0
    assert tasks.status["shadow"].state == "stopped"
    assert counted(metrics) == {"scored": 4, "failed": 2}
    shadow.close()


async def test_requests_continue_while_the_shadow_hangs(slot: ModelSlot, metrics: Metrics, model: ServedModel) -> None:
    begun, released = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang(rows: Array) -> Array:
        loop.call_soon_threadsafe(begun.set)
        released.wait()
        return np.zeros(len(rows))

    slot.shadow = doubled(model, EngineDouble(hang))
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    task = asyncio.create_task(shadow.score())
    try:
        await begun.wait()
        answer(shadow, model, tiny_rows(), "2")
        # What is being scored takes its place in the queue until it is done.
        assert (shadow.queued, counted(metrics)) == (100, {})
    finally:
        released.set()
        await task
    assert (shadow.queued, counted(metrics)) == (50, {"scored": 50})
    shadow.close()


async def test_one_thread_of_low_priority_scores(slot: ModelSlot, metrics: Metrics, model: ServedModel) -> None:
    niceness: list[int] = []

    def look(rows: Array) -> Array:
        if sys.platform == "linux":
            niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return np.zeros(len(rows))

    engine = EngineDouble(look)
    slot.shadow = doubled(model, engine)
    shadow = Shadow(slot, metrics, 100)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    for number in range(3):
        answer(shadow, model, tiny_rows(), str(number))
        await score_all(shadow)
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads
    assert niceness == [module.NICENESS] * len(niceness)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    shadow.close()


async def test_real_models_are_compared(
    metrics: Metrics, model: ServedModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    booster = tiny_booster(-tiny_rows()[:, 0], rounds=5)
    other = versioned(serve(save_booster(booster, tmp_path_factory.mktemp("other") / "model")), "2")
    slot = ModelSlot()
    slot.shadow = other
    shadow = Shadow(slot, metrics, 100)
    answer(shadow, model, tiny_rows())
    await score_all(shadow)
    difference = other.engine.predict(tiny_rows()) - model.engine.predict(tiny_rows())
    assert len(np.unique(np.searchsorted(DIFFERENCE_BUCKETS, difference))) > 3
    assert buckets(metrics) == {
        bound: np.count_nonzero(difference <= bound) for bound in (*DIFFERENCE_BUCKETS, float("inf"))
    }
    shadow.close()
