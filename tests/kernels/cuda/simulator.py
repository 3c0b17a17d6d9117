"""What the tests in numba's simulator share: how to make it run the kernels.

It runs each CUDA thread as a Python thread, so batches, grids and tiles are small. It cannot pass its arrays to
compiled functions: it is given functions that hand them numpy arrays instead, and so runs the very code that the CPU
runs.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numba import config
from numpy.typing import NDArray

from kernels.cuda import availability
from kernels.cuda import backend as cuda
from kernels.forest import predicates
from kernels.plan import nearest, operations

IN_SIMULATOR = [
    pytest.mark.skipif(
        os.environ.get("NUMBA_ENABLE_CUDASIM") == "0", reason="NUMBA_ENABLE_CUDASIM=0 asks for a real GPU"
    ),
    # The simulator computes by numpy, which warns where a device makes an infinity.
    pytest.mark.filterwarnings("ignore:.*overflow encountered in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*invalid value encountered in:RuntimeWarning"),
]
"""Marks of a file of such tests."""


@contextmanager
def simulator() -> Iterator[pytest.MonkeyPatch]:
    """Has the simulator run the kernels; what is patched besides is put back with the rest."""
    assert config.ENABLE_CUDASIM, "NUMBA_ENABLE_CUDASIM=1 must be set before numba is imported"
    pytest.importorskip("numba.cuda", reason="this numba has no numba.cuda, and numba-cuda is not installed")
    from numba.cuda.simulator import kernelapi
    from numba.cuda.simulator.cudadrv.devices import FakeCUDADevice

    from kernels.cuda import contributions, forest, references, steps

    def evaluate(op, a, b, constants, offset, length):
        return operations.evaluate(op, a, b, constants.copy_to_host(), offset, length)

    def describe(*arguments):
        *given, out = (
            argument.copy_to_host() if hasattr(argument, "copy_to_host") else argument for argument in arguments
        )
        for array in given[4:13]:  # as those of a table are on the CPU: other types would be compiled anew
            array.flags.writeable = False
        nearest.describe(*given, out)
        arguments[-1][:] = out

    def rank(value, thresholds, column):
        return predicates.rank(value, thresholds.copy_to_host(), column.copy_to_host())

    def in_set(place, sets, start):
        return predicates.in_set(place, sets.copy_to_host(), start)

    def shared(self: Any, shape: int, dtype: type) -> NDArray[Any]:
        caller = sys._getframe(1)
        return self._allocations.setdefault(caller.f_lineno, np.empty(shape, dtype))

    # Threads take turns at the barriers, and by default wait 5 ms for each.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with pytest.MonkeyPatch.context() as patch:
            # The simulator's own looks and then stores: two threads at once may get an array each.
            patch.setattr(kernelapi.FakeCUDAShared, "array", shared)
            patch.setattr(FakeCUDADevice, "name", "Simulated GPU", raising=False)
            patch.setattr(steps, "evaluate", evaluate)
            patch.setattr(references, "describe", describe)
            patch.setattr(forest, "rank", rank)
            patch.setattr(forest, "in_set", in_set)
            patch.setattr(contributions, "edge_factor", contributions.edge_factor.py_func)
            yield patch
    finally:
        sys.setswitchinterval(interval)


def simulated_backend(**sizes: int) -> cuda.CudaBackend:
    """A backend on the simulator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(availability, "cuda_unavailable_reason", lambda: None)
        return cuda.CudaBackend(**sizes)
