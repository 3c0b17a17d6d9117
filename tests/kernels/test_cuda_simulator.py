"""The CUDA kernels, run by numba's simulator, agree with the CPU bit for bit.

The simulator runs each CUDA thread as a Python thread, so batches and grids are small. It cannot pass its arrays to
compiled functions: the tests hand `evaluate` numpy arrays instead, and so run the very code that the CPU runs.
"""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from numba import config

from kernels import cuda, features
from kernels.backend import Backend
from kernels.cpu import CpuBackend
from kernels.plan import Input, Plan
from tests.kernels.plans import EVERY_STEP, HARD_ROWS, california, plans

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("NUMBA_ENABLE_CUDASIM") == "0", reason="NUMBA_ENABLE_CUDASIM=0 asks for a real GPU"
    ),
    # The simulator rounds to float32 by numpy, which warns where a device makes an infinity.
    pytest.mark.filterwarnings("ignore:.*overflow encountered in cast:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def backend() -> Iterator[cuda.CudaBackend]:
    assert config.ENABLE_CUDASIM, "NUMBA_ENABLE_CUDASIM=1 must be set before numba is imported"
    pytest.importorskip("numba.cuda", reason="this numba has no numba.cuda, and numba-cuda is not installed")
    from kernels import cuda_kernels

    def evaluate(op, a, b, constants, offset, length):
        return features.evaluate(op, a, b, constants.copy_to_host(), offset, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "cuda_unavailable_reason", lambda: None)
        # Two blocks of four threads: batches above eight rows make the threads stride.
        backend = cuda.CudaBackend(threads_per_block=4, min_blocks=1, max_blocks=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_kernels, "evaluate", evaluate)
        yield backend


def test_is_a_backend(backend: cuda.CudaBackend) -> None:
    assert isinstance(backend, Backend)
    assert backend.name == "cuda"


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 30])
def test_every_step_agrees_for_any_batch_size(backend: cuda.CudaBackend, count: int) -> None:
    program, rows = EVERY_STEP.program(), california(count)
    got = backend.transform(program, rows)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, CpuBackend().transform(program, rows))


def test_nan_infinities_and_denormals_agree(backend: cuda.CudaBackend) -> None:
    program, rows = EVERY_STEP.program(), HARD_ROWS[::37]
    np.testing.assert_array_equal(backend.transform(program, rows), CpuBackend().transform(program, rows))


@settings(max_examples=15)
@given(plan=plans())
def test_any_plan_agrees(backend: cuda.CudaBackend, plan: Plan) -> None:
    rows = np.random.default_rng(1).uniform(-89, 89, (5, len(plan.inputs)))
    program = plan.program()
    np.testing.assert_array_equal(backend.transform(program, rows), CpuBackend().transform(program, rows))


def test_a_smaller_batch_and_another_plan_see_nothing_of_the_last(backend: cuda.CudaBackend) -> None:
    bare = Plan(inputs=(Input(name="a"),), outputs=("a",))
    backend.transform(EVERY_STEP.program(), california(20))
    np.testing.assert_array_equal(backend.transform(bare.program(), np.ones((2, 1))), np.ones((2, 1)))
    program, rows = EVERY_STEP.program(), california(2)
    np.testing.assert_array_equal(backend.transform(program, rows), CpuBackend().transform(program, rows))


def test_takes_any_float_dtype_and_layout(backend: cuda.CudaBackend) -> None:
    rows = california(6).astype(np.float32)
    expected = CpuBackend().transform(EVERY_STEP.program(), rows)
    for same in (rows, np.asfortranarray(rows), np.frombuffer(rows.tobytes(), np.float32).reshape(rows.shape)):
        np.testing.assert_array_equal(backend.transform(EVERY_STEP.program(), same), expected)


def test_refuses_another_number_of_columns(backend: cuda.CudaBackend) -> None:
    with pytest.raises(ValueError, match=r"expected .*\(rows, 4\), got "):
        backend.transform(EVERY_STEP.program(), np.zeros((2, 3)))


def test_warms_up(backend: cuda.CudaBackend) -> None:
    backend.warm_up()


def test_a_simulated_gpu_is_not_taken_for_one() -> None:
    assert not cuda.cuda_available()
    with pytest.raises(cuda.CudaUnavailableError, match=r"CUDASIM|numba-cuda"):
        cuda.CudaBackend()
