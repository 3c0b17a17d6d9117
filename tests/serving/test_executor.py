"""The executor returns what the engine computes for all rows, however it cuts them into chunks."""

import asyncio
import threading
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.models.served import ServedModel
from app.serving.executor import INLINE_SECONDS, Executor
from app.serving.needs import Needs
from app.telemetry.metrics import Metrics
from app.telemetry.stages import Stages
from kernels.engine import Engine, Evaluation, Explanation
from kernels.explainer import Space
from tests.models.support import save_booster, save_referring, serve, tiny_booster, tiny_rows


class ExpensiveEngine:
    """An engine whose rows are expensive: five fill a chunk."""

    def __init__(self, engine: Engine) -> None:
        self.sizes: list[int] = []
        self._engine = engine

    def cost(self, rows: int) -> float:
        return 0.004 * rows

    def on_device(self, rows: int) -> bool:
        return False

    def chunk(self, rows: int, seconds: float, *, on_cpu: bool = False) -> int:
        return min(rows, 5)

    def evaluate(self, rows: NDArray[np.float64]) -> Evaluation:
        return self._engine.evaluate(rows)

    def evaluate_on_cpu(self, rows: NDArray[np.float64]) -> Evaluation:
        self.sizes.append(len(rows))
        return self._engine.evaluate(rows)

    def explains_on_device(self, rows: int) -> bool:
        return False

    def explain_cost(self, rows: int) -> float:
        return 0.02 * rows

    def explain_chunk(self, rows: int, seconds: float) -> int:
        return min(rows, 2)

    def explain(self, rows: NDArray[np.float64], space: Space) -> Explanation:
        self.sizes.append(len(rows))
        return self._engine.explain(rows, space)

    def leaves(self, rows: NDArray[np.float64]) -> NDArray[np.int32]:
        return self._engine.leaves(rows)

    def raw_score_on_cpu(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        self.sizes.append(len(rows))
        return self._engine.raw_score_on_cpu(rows)


def expensive(directory: Path) -> tuple[ServedModel, ExpensiveEngine]:
    served = serve(directory)
    engine = ExpensiveEngine(served.engine)
    return msgspec.structs.replace(served, engine=cast(Engine, engine)), engine


@pytest.mark.parametrize("rows", [1, 5, 6, 23])
async def test_chunks_are_joined_in_the_order_of_the_rows(rows: int, tmp_path: Path) -> None:
    served, engine = expensive(save_referring(tmp_path / "model"))
    batch = tiny_rows()[:rows] * 1.5
    evaluation = await Executor(Metrics()).predict(served, batch, "bulk")
    assert sorted(engine.sizes, reverse=True) == [5] * (rows // 5) + [rows % 5] * (rows % 5 > 0)
    expected = served.artifact.engine().evaluate(batch)
    assert evaluation.raw_score is None
    for got, wanted in zip(evaluation[:3], expected[:3], strict=True):
        assert got is not None
        assert wanted is not None
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("classes", [1, 3])
async def test_parts_the_model_does_not_compute_stay_none(classes: int, tmp_path: Path) -> None:
    changes = {"objective": "multiclass", "num_class": 3} if classes == 3 else {}
    booster = tiny_booster(tiny_rows()[:, 2] % 3, **changes)
    served, _ = expensive(save_booster(booster, tmp_path / "model"))
    evaluation = await Executor(Metrics()).predict(served, tiny_rows(), "bulk")
    np.testing.assert_array_equal(evaluation.prediction, booster.predict(tiny_rows()))
    assert (evaluation.difficulty, evaluation.distance) == (None, None)


async def test_an_empty_batch_has_an_empty_evaluation(tmp_path: Path) -> None:
    served, _ = expensive(save_referring(tmp_path / "model"))
    evaluation = await Executor(Metrics()).predict(served, np.empty((0, 3)), "batch")
    assert [field is not None and field.shape for field in evaluation] == [(0,)] * 3 + [False] * 3


@pytest.mark.parametrize("rows", [0, 1, 5, 23])
@pytest.mark.parametrize("classes", [1, 3])
async def test_raw_scores_are_lightgbms_in_threads_and_on_the_loop(classes: int, rows: int, tmp_path: Path) -> None:
    changes = {"objective": "multiclass", "num_class": 3} if classes == 3 else {"objective": "poisson"}
    booster = tiny_booster(tiny_rows()[:, 2] % 3, **changes)
    in_threads, engine = expensive(save_booster(booster, tmp_path / "model"))
    on_the_loop, batch = serve(tmp_path / "model"), tiny_rows()[:rows]
    for served in (in_threads, on_the_loop):
        evaluation = await Executor(Metrics()).predict(served, batch, "bulk", Needs(raw_score=True))
        raw, shape = evaluation.raw_score, (rows, 3) if classes == 3 else (rows,)
        assert raw is not None
        assert raw.shape == evaluation.prediction.shape == shape
        if rows:
            np.testing.assert_array_equal(raw, booster.predict(batch, raw_score=True))
            np.testing.assert_array_equal(evaluation.prediction, booster.predict(batch))
    assert sorted(engine.sizes) == sorted(2 * ([5] * (rows // 5) + [rows % 5] * (rows % 5 > 0)))


@pytest.mark.parametrize(
    "changes", [{"linear_tree": True}, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}]
)
async def test_raw_scores_of_other_kinds_of_model_are_lightgbms(changes: dict[str, object], tmp_path: Path) -> None:
    booster = tiny_booster(objective="binary", target=tiny_rows()[:, 2] % 2, **changes)
    served = serve(save_booster(booster, tmp_path / "model"))
    evaluation = await Executor(Metrics()).predict(served, tiny_rows(), "bulk", Needs(raw_score=True))
    np.testing.assert_array_equal(evaluation.raw_score, booster.predict(tiny_rows(), raw_score=True))


async def test_the_sample_is_predicted_and_not_counted(tmp_path: Path) -> None:
    served, _ = expensive(save_referring(tmp_path / "model"))
    metrics = Metrics()
    predicted = await Executor(metrics).check(served)
    np.testing.assert_array_equal(predicted, served.artifact.engine().predict(served.artifact.sample()))
    assert not metrics.registry.get_sample_value(
        "predictions_total", {"model_name": served.identity.name, "model_version": "1", "prediction_type": "single"}
    )


@pytest.mark.parametrize("raw_score", [False, True])
def test_rows_of_one_chunk_are_evaluated_in_the_calling_thread(raw_score: bool, tmp_path: Path) -> None:
    served, engine = expensive(save_referring(tmp_path / "model"))
    executor, batch = Executor(Metrics()), tiny_rows()
    evaluation = executor.evaluate_here(served, batch[:5], Needs(raw_score))
    assert evaluation is not None
    np.testing.assert_array_equal(evaluation.prediction, served.engine.evaluate(batch[:5]).prediction)
    assert (evaluation.raw_score is not None) == raw_score
    assert engine.sizes == [5] * (1 + raw_score)
    assert executor.evaluate_here(served, batch[:6], Needs(raw_score)) is None
    assert executor.evaluate_here(served, batch[:0], Needs(raw_score)) is None


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
async def test_explanations_and_leaves_are_the_engines_in_threads_and_on_the_loop(rows: int, tmp_path: Path) -> None:
    in_threads, engine = expensive(save_referring(tmp_path / "model"))
    on_the_loop, batch = serve(tmp_path / "model"), tiny_rows()[:rows]
    expected, leaves = on_the_loop.engine.explain(batch), on_the_loop.engine.leaves(batch)
    stages: Stages = []
    for served in (in_threads, on_the_loop):
        evaluation = await Executor(Metrics()).predict(served, batch, "bulk", Needs(True, "raw", True), stages)
        assert evaluation.explanation is not None
        np.testing.assert_array_equal(evaluation.explanation.contributions, expected.contributions)
        assert evaluation.explanation.groups == expected.groups
        np.testing.assert_array_equal(evaluation.leaves, leaves)
    assert {1: [1], 2: [2], 5: [1, 2, 2]}.get(rows, [0]) == sorted(engine.sizes)[: (rows + 1) // 2 or 1]
    assert [stage for stage, _, _ in stages].count("explain") == (2 if rows else 0)


async def test_a_caller_that_has_gone_is_explained_no_further(tmp_path: Path) -> None:
    served, engine = expensive(save_referring(tmp_path / "model"))
    executor = Executor(Metrics())
    started, go_on = asyncio.Event(), threading.Event()
    loop, explain = asyncio.get_running_loop(), engine.explain

    def waiting(rows: NDArray[np.float64], space: Space) -> Explanation:
        loop.call_soon_threadsafe(started.set)
        go_on.wait()
        return explain(rows, space)

    engine.explain = waiting  # type: ignore[method-assign]
    engine.sizes.clear()
    request = asyncio.ensure_future(executor.predict(served, tiny_rows(), "bulk", Needs(space="raw")))
    await started.wait()
    request.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await request
    executor.close()
    assert engine.sizes.count(2) < len(tiny_rows()) // 2


def test_a_row_that_is_explained_weighs_its_time_and_memory(tmp_path: Path) -> None:
    served, _ = expensive(save_referring(tmp_path / "model"))
    executor, forest = Executor(Metrics()), served.artifact.forest
    assert executor.weight(served, Needs(raw_score=True)) == (1.0, 0)
    assert executor.weight(served, Needs(space="raw")) == (6.0, 3)
    assert executor.weight(served, Needs(space="model")) == (6.0, forest.n_features)
    assert executor.weight(served, Needs(leaves=True)) == (2.0, -(-forest.n_trees // 2))


def test_only_what_is_quick_to_explain_is_explained_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, executor = serve(save_referring(tmp_path / "model")), Executor(Metrics())
    engine = ExpensiveEngine(served.engine)
    engine.cost = lambda rows: 0.0  # type: ignore[method-assign]
    for seconds, cheap in ((INLINE_SECONDS, True), (2 * INLINE_SECONDS, False)):
        engine.explain_cost = lambda rows, seconds=seconds: seconds  # type: ignore[method-assign]
        model = msgspec.structs.replace(served, engine=cast(Engine, engine))
        assert executor.is_cheap(model, 1)
        assert executor.is_cheap(model, 1, Needs(space="raw")) is cheap
        with monkeypatch.context() as patch:
            patch.setattr(engine, "explains_on_device", lambda rows: True)
            assert not executor.is_cheap(model, 1, Needs(space="raw"))
        assert not executor.is_cheap(model, 1, Needs(leaves=True))
