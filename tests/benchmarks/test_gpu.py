"""The benchmark of the GPU: what it says without one, and what it makes of what it measures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu import Run, compared, floors, machine_of, made_rows, page, picture, steps_of
from benchmarks.report import save
from kernels.backend import Outcome, Pipeline
from kernels.cpu.backend import CpuBackend
from kernels.cuda.availability import cuda_unavailable_reason
from kernels.forest.forest import Forest
from tests.kernels.cuda.simulator import IN_SIMULATOR, simulated_backend, simulator
from tests.kernels.forest.boosters import Split, model_text, tree_text

MACHINE = {"up": 5e10, "down": 4e10, "memory": 3e12, "multiprocessors": 132.0, "clock": 1.7e9}


@pytest.fixture(scope="module")
def booster() -> lgb.Booster:
    rows = made_rows(300, seed=1)
    return lgb.train({"verbose": -1, "num_threads": 1, "num_leaves": 5}, lgb.Dataset(rows, rows[:, 0]), 4)


@pytest.fixture(scope="module")
def pipeline(booster: lgb.Booster) -> Pipeline:
    return Pipeline(None, (Forest.from_booster(booster),))


@pytest.mark.skipif(cuda_unavailable_reason() is None, reason="there is a GPU")
@pytest.mark.slow
def test_without_a_gpu_it_says_so_in_a_line() -> None:
    environ = os.environ | {"NUMBA_ENABLE_CUDASIM": "0"}
    root = Path(gpu.__file__).parents[1]
    command = [sys.executable, "-m", "benchmarks.gpu"]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("There is no GPU to measure: ")
    assert done.stderr.count("\n") == 1


def test_steps_are_the_nodes_that_a_row_meets() -> None:
    # Right of the first threshold there is a second one; and a tree that is a leaf.
    deep = tree_text([Split(0, 0.0, 0), Split(0, 1.0, 0)], [0, 1], [1, 2, 3])
    flat = tree_text([Split(0, 0.5, 0)], [0], [1, 2])
    forest = Forest.from_model_text(model_text([deep, flat, tree_text([], [], [1.0])], 1))
    assert steps_of(Pipeline(None, (forest,)), np.array([[-1.0]])) == 2
    assert steps_of(Pipeline(None, (forest, forest)), np.array([[-1.0], [0.7]])) == 5


def test_floors_follow_their_formulae(pipeline: Pipeline) -> None:
    found = floors(pipeline, [1, 1000], 8.0, MACHINE)
    assert isinstance(pipeline.forests[0], Forest)
    columns = len(pipeline.forests[0].predicates.columns)
    assert found["transfer"]["1000"] == pytest.approx(1000 * 64 / 5e10)
    assert found["memory"]["1"] == pytest.approx((128 + 4 * columns + 8) / 3e12)
    assert found["issue"]["1000"] == pytest.approx(1000 * 8 * 25 / (128 * 132 * 1.7e9))


class LastBit(CpuBackend):
    """Differs from the CPU in the last row's last bit."""

    def evaluate(self, pipeline: Pipeline, X: np.ndarray, raw_score: bool = False) -> Outcome:
        scores = super().evaluate(pipeline, X, raw_score).predictions[0].copy()
        scores[-1] = np.nextafter(scores[-1], 1e9)
        return Outcome((scores,))


def test_rows_that_differ_in_a_bit_are_counted(pipeline: Pipeline) -> None:
    rows = made_rows(100, seed=2)
    *_, found = compared(pipeline, rows, [1, 100], LastBit(), CpuBackend(), rounds=2)
    assert found["different_rows"] == {"1": 1, "100": 1}
    (found,) = compared(pipeline, rows, [100], CpuBackend(), CpuBackend(), rounds=1)
    assert found["different_rows"] == {"100": 0}


class TestInSimulator:
    pytestmark = IN_SIMULATOR

    def test_each_model_is_written_when_it_is_measured(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(gpu, "ROUND_S", 0.0)
        report = {"date": "", "machine": "a GPU", "versions": {}, "rounds": 1, "measured": MACHINE}
        report |= {"batches": [1, 10], "models": {}}
        rows = made_rows(10, seed=2)
        with simulator() as patch:
            from numba import cuda
            from numba.cuda.simulator.cudadrv.devices import FakeCUDADevice

            patch.setattr(FakeCUDADevice, "MULTIPROCESSOR_COUNT", 132, raising=False)
            patch.setattr(FakeCUDADevice, "CLOCK_RATE", 1_700_000, raising=False)
            machine = machine_of(cuda, size=100)
            backend = simulated_backend(threads_per_block=2, forest_threads=2, min_blocks=1)
            run = Run(report, backend, CpuBackend(), tmp_path)
            run.measure("first", pipeline, rows)
            patch.setattr(gpu, "steps_of", lambda *_: pytest.fail("the machine is taken away"))
            with pytest.raises(pytest.fail.Exception):
                run.measure("second", pipeline, rows)
        assert set(machine) == set(MACHINE)
        assert machine["clock"] == 1.7e9
        written = json.loads((tmp_path / "gpu.json").read_text())["models"]
        assert written["first"]["different_rows"] == written["second"]["different_rows"] == {"1": 0, "10": 0}
        assert "floors" not in written["second"]
        assert "explained" not in written["second"]
        told = written["first"]["explained"]
        assert set(told["seconds"]["gpu"]) == set(told["seconds"]["cpu"]) == {"1", "10"}
        assert (told["different_rows"], told["compared_rows"]) == (0, 10)
        assert told["difference"] <= 1e-12
        text = (tmp_path / "gpu.md").read_text()
        assert text == page(report)
        assert "## First" in text
        assert "## Second" not in text
        assert text.count("| 10 | ") == 2  # evaluated, and explained
        assert "Contributions of 0 of 10 rows differ" in text
        report["models"] = dict.fromkeys("abcd", report["models"]["first"])
        save("gpu", report, page, tmp_path, {"gpu": picture})
        assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")
