"""Feature transforms on an NVIDIA GPU, through numba-cuda (an optional extra).

Importing this module needs neither a GPU nor numba-cuda; making a `CudaBackend` needs both.
"""

import importlib.util
import threading
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.backend import as_rows
from kernels.expansion import ExpansionArrays
from kernels.neighbours import NeighbourArrays
from kernels.program import Program, pack

NO_NEIGHBOURS = NeighbourArrays(
    points=np.zeros(0, dtype=np.int32),
    scales=np.zeros(0),
    coordinates=np.zeros((0, 0)),
    order=np.zeros(0, dtype=np.int32),
    low=np.zeros((0, 0)),
    high=np.zeros((0, 0)),
    centres=np.zeros(0),
    attributes=np.zeros((0, 0)),
    target=np.zeros(0),
    counts=np.zeros(0, dtype=np.int32),
    contrasts=np.zeros(0, dtype=np.int32),
    contrast_counts=np.zeros(0, dtype=np.int32),
    regressions=np.zeros((0, 3), dtype=np.int32),
    regressors=np.zeros(0, dtype=np.int32),
    regressor_scales=np.zeros(0),
    numbers=np.zeros(0),
    columns=np.zeros(0, dtype=np.int32),
    capacity=np.zeros(0, dtype=np.int32),
)
"""In the place of a step that a launch does without, as is the next."""

NO_EXPANSION = ExpansionArrays(
    points=np.zeros(0, dtype=np.int32),
    centres=np.zeros(0),
    scales=np.zeros(0),
    stored=np.zeros((0, 0), dtype=np.float32),
    weights=np.zeros(0, dtype=np.float32),
    shapes=np.zeros(0, dtype=np.int32),
    factors=np.zeros(0, dtype=np.int32),
    terms=np.zeros(0, dtype=np.int32),
    variances=np.zeros(0),
    offset=np.zeros(0),
    columns=np.zeros(0, dtype=np.int32),
)


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
    """Transforms a batch in one launch for the stateless steps, and one for each pair of reference steps.

    A pair is a search for neighbours and a Gaussian process, which read the stored rows together. Arithmetic is the
    CPU's; labels of stored rows are not known here, since only training leaves stored rows out.

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
        self._reference_arrays: list[tuple[int, tuple[Any, ...]]] = []

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
            self._keep(program)
            device_rows = self._buffer("rows", rows.shape, np.float64)
            device_rows.copy_to_device(rows)
            work = self._buffer("work", (n_steps, threads), np.float64)
            places = self._buffer("places", (len(rows), max(1, len(program.points))), np.float64)
            device_features = self._buffer("features", features.shape, np.float32)
            self._kernels.transform[blocks, self._threads_per_block](
                device_rows, *self._program_arrays, work, places, device_features
            )
            for n_columns, arrays in self._reference_arrays:
                descriptions = self._buffer("descriptions", (threads, max(1, n_columns)), np.float64)
                self._kernels.references[blocks, self._threads_per_block](
                    places, *arrays, descriptions, device_features
                )
            # The copy back waits for the launches, so an error of a kernel surfaces here.
            device_features.copy_to_host(features)
        return features

    def warm_up(self) -> None:
        """Create the context and compile the stateless steps' kernel; the other waits for a program that needs it."""
        self.transform(pack(("x",), (), ("x",)), np.zeros((1, 1)))

    def _keep(self, program: Program) -> None:
        """Have the program's arrays on the device; an engine has one program, so the last one is all that is kept."""
        if self._program is program:
            return
        self._program = None
        self._reference_arrays = []
        self._program_arrays = tuple(self._cuda.to_device(array) for array in program.arrays())
        self._reference_arrays = [
            (len(near.columns), tuple(self._cuda.to_device(array) for array in (*_searched_whole(near), *mean)))
            for near, mean in _pairs(program)
        ]
        self._program = program

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


def _pairs(program: Program) -> Iterator[tuple[NeighbourArrays, ExpansionArrays]]:
    """The program's reference steps, as many to a launch as it takes; those that make no feature are left out."""
    wanted = [arrays for arrays in program.references if (arrays.columns >= 0).any()]
    searches = [arrays for arrays in wanted if isinstance(arrays, NeighbourArrays)]
    means = [arrays for arrays in wanted if isinstance(arrays, ExpansionArrays)]
    for near, mean in zip_longest(searches, means):
        yield near or NO_NEIGHBOURS, mean or NO_EXPANSION


def _searched_whole(arrays: NeighbourArrays) -> Iterator[Any]:
    """The arrays that a search without boxes takes, in the kernel's order."""
    return (array for field, array in zip(arrays._fields, arrays, strict=True) if field not in ("low", "high"))


def _driver_error(cuda: Any) -> str:
    """What the driver says of itself when it cannot be used."""
    try:
        cuda.current_context()
    except Exception as error:
        return " ".join(str(error).split())
    return "the CUDA driver or libNVVM cannot be loaded"
