"""Feature transforms on an NVIDIA GPU, through numba-cuda (an optional extra).

Importing this module needs neither a GPU nor numba-cuda; making a `CudaBackend` needs both.
"""

import importlib.util
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.backend import as_rows
from kernels.program import Program, pack


class CudaUnavailableError(RuntimeError):
    """There is no GPU to use; the message says what is missing."""


def cuda_unavailable_reason() -> str | None:
    """Why CUDA cannot be used here, or None if it can. Never raises."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    try:
        from numba import config, cuda

        if config.ENABLE_CUDASIM:  # pyright: ignore[reportAttributeAccessIssue]
            return "NUMBA_ENABLE_CUDASIM is set, and numba's simulator is no GPU"
        cuda.detect  # noqa: B018  an attribute only of a numba.cuda that loaded whole
        if not cuda.is_available():
            return _driver_error(cuda)
        if len(cuda.gpus) == 0:
            return "the CUDA driver lists no device"
    except Exception as error:  # a broken driver or toolkit shows in many types
        return f"{type(error).__name__}: {error}"
    return None


def cuda_available() -> bool:
    """Whether a CudaBackend can be made here; `cuda_unavailable_reason` says why not."""
    return cuda_unavailable_reason() is None


class CudaBackend:
    """Transforms a batch in one launch. Arithmetic is float64 and the result rounded to float32, as on the CPU.

    Device buffers are kept and grown between calls; a lock lets one batch at a time use them, so calls from several
    threads are safe (and queue). Any CUDA error surfaces as an exception of `transform`; after one, the context may be
    poisoned for good, so the caller should not use the backend again.

    Args:
        threads_per_block: of a launch.
        min_blocks: the least grid. numba warns of grids below 128 blocks, and warnings can be errors; idle blocks cost
            nothing.
        max_blocks: the greatest grid; threads stride over the rows beyond it.

    Raises CudaUnavailableError when there is no GPU to use.
    """

    name = "cuda"

    def __init__(self, *, threads_per_block: int = 128, min_blocks: int = 128, max_blocks: int = 2048) -> None:
        reason = cuda_unavailable_reason()
        if reason is not None:
            raise CudaUnavailableError(reason)
        from numba import cuda

        from kernels import cuda_kernels

        self._cuda: Any = cuda
        self._kernels: Any = cuda_kernels
        self._threads_per_block = threads_per_block
        self._min_blocks = min_blocks
        self._max_blocks = max_blocks
        self._lock = threading.Lock()
        self._buffers: dict[str, Any] = {}
        self._program: Program | None = None
        self._program_arrays: tuple[Any, ...] = ()

    def transform(self, program: Program, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw features float[B, F] of any float dtype and layout to model features float32[B, O].

        Raises ValueError when X is not of shape (B, program.n_inputs), and numba's CUDA errors when the device fails.
        """
        rows = as_rows(X, program.n_inputs)
        features = np.empty((len(rows), program.n_outputs), dtype=np.float32)
        if len(rows) == 0:
            return features
        blocks = -(-len(rows) // self._threads_per_block)
        blocks = min(max(blocks, self._min_blocks), self._max_blocks)
        threads = min(len(rows), blocks * self._threads_per_block)
        n_steps = max(1, len(program.opcodes))
        with self._lock:
            device_program = self._resident(program)
            device_rows = self._buffer("rows", rows.shape, np.float64)
            device_rows.copy_to_device(rows)
            work = self._buffer("work", (n_steps, threads), np.float64)
            device_features = self._buffer("features", features.shape, np.float32)
            self._kernels.transform[blocks, self._threads_per_block](
                device_rows, *device_program, work, device_features
            )
            # The copy back waits for the launch, so an error of the kernel surfaces here.
            device_features.copy_to_host(features)
        return features

    def warm_up(self) -> None:
        """Create the context and compile the kernel."""
        self.transform(pack(("x",), (), ("x",)), np.zeros((1, 1)))

    def _resident(self, program: Program) -> tuple[Any, ...]:
        """The program's arrays on the device; an engine has one program, so the last one is all that is kept."""
        if self._program is not program:
            self._program_arrays = tuple(self._cuda.to_device(array) for array in program.arrays())
            self._program = program
        return self._program_arrays

    def _buffer(self, name: str, shape: tuple[int, int], dtype: type) -> Any:
        """A C-contiguous device array of this shape, cut from a buffer that grows by doubling."""
        size = shape[0] * shape[1]
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            capacity = max(size, 2 * buffer.size if buffer is not None else 1024)
            # Let go of the old buffer first, so that the device need not hold both.
            self._buffers.pop(name, None)
            buffer = self._buffers[name] = self._cuda.device_array(capacity, dtype=dtype)
        return buffer[:size].reshape(shape)


def _driver_error(cuda: Any) -> str:
    """What the driver says of itself when it cannot be used."""
    try:
        cuda.current_context()
    except Exception as error:
        return " ".join(str(error).split())
    return "the CUDA driver or libNVVM cannot be loaded"
