"""The executor returns what the engine computes for all rows, however it cuts them into chunks."""

from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.models.served import ServedModel
from app.serving.executor import Executor
from app.telemetry.metrics import Metrics
from kernels.engine import Engine, Evaluation
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
    assert [field is not None and field.shape for field in evaluation] == [(0,)] * 3 + [False]


@pytest.mark.parametrize("rows", [0, 1, 5, 23])
@pytest.mark.parametrize("classes", [1, 3])
async def test_raw_scores_are_lightgbms_in_threads_and_on_the_loop(classes: int, rows: int, tmp_path: Path) -> None:
    changes = {"objective": "multiclass", "num_class": 3} if classes == 3 else {"objective": "poisson"}
    booster = tiny_booster(tiny_rows()[:, 2] % 3, **changes)
    in_threads, engine = expensive(save_booster(booster, tmp_path / "model"))
    on_the_loop, batch = serve(tmp_path / "model"), tiny_rows()[:rows]
    for served in (in_threads, on_the_loop):
        evaluation = await Executor(Metrics()).predict(served, batch, "bulk", raw_score=True)
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
    evaluation = await Executor(Metrics()).predict(served, tiny_rows(), "bulk", raw_score=True)
    np.testing.assert_array_equal(evaluation.raw_score, booster.predict(tiny_rows(), raw_score=True))


async def test_the_sample_is_predicted_and_not_counted(tmp_path: Path) -> None:
    served, _ = expensive(save_referring(tmp_path / "model"))
    metrics = Metrics()
    predicted = await Executor(metrics).check(served)
    np.testing.assert_array_equal(predicted, served.artifact.engine().predict(served.artifact.sample()))
    assert not metrics.registry.get_sample_value(
        "predictions_total", {"model_version": "1", "prediction_type": "single"}
    )


@pytest.mark.parametrize("raw_score", [False, True])
def test_rows_of_one_chunk_are_evaluated_in_the_calling_thread(raw_score: bool, tmp_path: Path) -> None:
    served, engine = expensive(save_referring(tmp_path / "model"))
    executor, batch = Executor(Metrics()), tiny_rows()
    evaluation = executor.evaluate_here(served, batch[:5], raw_score)
    assert evaluation is not None
    np.testing.assert_array_equal(evaluation.prediction, served.engine.evaluate(batch[:5]).prediction)
    assert (evaluation.raw_score is not None) == raw_score
    assert engine.sizes == [5] * (1 + raw_score)
    assert executor.evaluate_here(served, batch[:6], raw_score) is None
    assert executor.evaluate_here(served, batch[:0], raw_score) is None
