"""Feature transforms and forests on an NVIDIA GPU, through numba-cuda (an optional extra).

Importing this module needs neither a GPU nor numba-cuda; making a `CudaBackend` needs both.
"""

import atexit
import contextlib
import functools
import importlib.util
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Outcome, OutOfDeviceMemory, Pipeline
from kernels.cuda.buffers import StreamBuffers, rounded
from kernels.cuda.device_thread import DEVICE
from kernels.cuda.memory import DeviceMemory
from kernels.cuda.program import pairs
from kernels.forest.forest import Forest
from kernels.plan.program import Program, pack
from kernels.rows import as_rows

T = TypeVar("T")

OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY and cudaErrorMemoryAllocation."""

CHUNK_BYTES = 2**28
"""Of the device's memory, for the rows of a chunk."""

MAX_ROW_BITS = 5

CLOSE_SECONDS = 5.0
"""A device that hangs is not waited for longer."""

_left_to_the_driver = contextlib.ExitStack()
"""Keeps numba from freeing memory, where the driver would refuse it and numba complain of each piece."""


class CudaUnavailableError(RuntimeError):
    """There is no GPU to use; the message says what is missing."""


def cuda_unavailable_reason() -> str | None:
    """Why CUDA cannot be used here, or None if it can. Never raises."""
    if DEVICE.lost is not None:
        return f"the process must be restarted, since its CUDA context has died: {DEVICE.lost}"
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
    """Transforms a batch, and evaluates forests on it, with one round trip to the device.

    Three launches do it: the stateless steps, the ranks of the features, all forests; and one more for each pair of
    reference steps, a search for neighbours and a Gaussian process, which read the stored rows together. (numba-cuda
    has no interface to CUDA's graphs, which would make one launch of them.) Arithmetic is the CPU's, to the bit for
    forests; labels of stored rows are not known here, since only training leaves stored rows out.

    A large batch goes in chunks, and by turns in two streams: while the device computes one, the next is copied. The
    program, the forests and all buffers stay on the device between calls. All that concerns the device happens in the
    device's thread, so calls from any thread are safe, and queue. Any CUDA error surfaces as an exception of the call;
    after one other than `OutOfDeviceMemory` the caller should not use the backend again, and where it has killed the
    context, which is the process's, no other backend can be made. The device's memory is freed when the backend is
    closed, or gone.

    Args:
        threads_per_block: of a launch, but for the forests'.
        forest_threads: of a block that evaluates forests, a power of two.
        min_blocks: the least grid. numba warns of grids below 128 blocks, and warnings can be errors; idle blocks cost
            nothing.
        max_blocks: the greatest grid; threads stride over the rows beyond it.
        chunk_rows: of a chunk at most.

    Raises CudaUnavailableError when there is no GPU to use.
    """

    name = "cuda"

    def __init__(
        self,
        *,
        threads_per_block: int = 128,
        forest_threads: int = 256,
        min_blocks: int = 128,
        max_blocks: int = 2048,
        chunk_rows: int = 65_536,
    ) -> None:
        reason = cuda_unavailable_reason()
        if reason is not None:
            raise CudaUnavailableError(reason)
        from numba import cuda

        from kernels.cuda import forest_kernels as cuda_forest_kernels
        from kernels.cuda import plan_kernels as cuda_kernels

        self._cuda: Any = cuda
        self._kernels: Any = cuda_kernels
        self._forest_kernels: Any = cuda_forest_kernels
        self._threads_per_block = threads_per_block
        self._forest_threads = forest_threads
        self._min_blocks = min_blocks
        self._max_blocks = max_blocks
        self._chunk_rows = chunk_rows
        self._memory = DeviceMemory(cuda)
        # The last reference may die in any thread; at exit the driver frees all.
        weakref.finalize(self, DEVICE.later, self._memory.close).atexit = False
        _end_quietly()

    @property
    def device(self) -> str:
        """The GPU's product name."""
        name = DEVICE.run(self._cuda.get_current_device).name
        return name.decode() if isinstance(name, bytes) else str(name)

    @property
    def uuid(self) -> str:
        """The GPU's UUID, which NVML has too, while indices differ from NVML's where CUDA_VISIBLE_DEVICES is set."""
        uuid = str(DEVICE.run(self._cuda.get_current_device).uuid)
        return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"

    def chunk(self, pipeline: Pipeline) -> int:
        """Rows that are computed at a time."""
        return self._size(_row_bytes(pipeline))

    def close(self) -> None:
        """Free the device's memory, after what is under way; later calls raise RuntimeError."""
        with contextlib.suppress(TimeoutError):
            DEVICE.run(self._memory.close, CLOSE_SECONDS)

    def transform(self, program: Program, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw features float[B, F] of any float dtype and layout to model features float32[B, O].

        Raises:
            ValueError: X is not of shape (B, program.n_inputs).
            OutOfDeviceMemory: The batch is too large for the device now.
        """
        rows = as_rows(X, program.n_inputs)

        def work() -> NDArray[np.float32]:
            self._memory.keep(program)
            features = np.empty((len(rows), program.n_outputs), dtype=np.float32)
            self._in_chunks(rows, features, "features", _row_bytes(Pipeline(program, ())))
            return features

        return self._run(work)

    def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        """Raw features float[B, F] of any float dtype and layout to predictions, or to raw scores.

        Raises:
            ValueError: X has not F columns, or the pipeline's parts do not fit each other.
            ForestTooLargeError: The forests are too large for the kernels; a ValueError too.
            TypeError: A forest is one that only LightGBM evaluates.
            OutOfDeviceMemory: The batch is too large for the device now.
        """
        program, forests, distance = pipeline.program, _on_device(pipeline), pipeline.distance
        rows = as_rows(X, forests[0].n_features if program is None else program.n_inputs)

        def work() -> NDArray[np.float64]:
            self._memory.keep(program)
            self._memory.keep_forests(forests)
            scores = np.empty((len(rows), _width(pipeline)))
            self._in_chunks(rows, scores, "scores", _row_bytes(pipeline), -1 if distance is None else distance)
            return scores

        scores = self._run(work)
        first, predictions = 0, []
        for forest in forests:
            own = np.ascontiguousarray(scores[:, first : first + forest.n_outputs])
            predictions.append(forest.finished(own, raw_score))
            first += forest.n_outputs
        return Outcome(tuple(predictions), None if distance is None else scores[:, -1].astype(np.float32))

    def warm_up(self, pipeline: Pipeline | None = None) -> None:
        """Create the context and compile the kernels, in the calling thread: others wait for the device's.

        Forests are data, so none is needed for it. The kernel of reference steps, which takes longest, is left to a
        pipeline that has such.
        """
        program = None if pipeline is None else pipeline.program
        refers = program is not None and any(True for _ in pairs(program))
        for module in (self._kernels, self._forest_kernels):
            for name, signatures in module.SIGNATURES.items():
                compile_ = getattr(getattr(module, name), "compile", None)  # numba's simulator compiles nothing
                if compile_ is not None and (refers or name != "references"):
                    for signature in signatures if isinstance(signatures, list) else [signatures]:
                        compile_(signature)
        row = np.zeros((1, 1))
        self.evaluate(Pipeline(pack(("x",), (), ("x",)), (), 0), row)

        def work() -> None:
            self._memory.keep(None)
            self._memory.keep_forests(())
            self._in_chunks(row, np.empty((1, 1)), "scores", 1, 0)

        self._run(work)

    def _run(self, work: Callable[[], T]) -> T:
        """Have the device for some work, and let go of all buffers when its memory does not suffice."""
        return DEVICE.run(lambda: self._work(work))

    def _work(self, work: Callable[[], T]) -> T:
        if self._memory.closed:
            raise RuntimeError("the backend is closed")
        self._cuda.current_context()  # outside the handler: one that cannot be had has not died
        try:
            return work()
        except Exception as error:
            if not _out_of_memory(error):
                self._look_for_death(error)
                raise
            said = " ".join(str(error).split())
        # Out of the handler, since the error holds on to frames, and they to buffers.
        self._memory.free_buffers()
        raise OutOfDeviceMemory(f"the device's memory does not suffice: {said}")

    def _look_for_death(self, error: Exception) -> None:
        """Note whether an error killed the context: a dead one answers every later call with that error."""
        try:
            self._cuda.synchronize()
        except Exception:
            if DEVICE.lost is None:
                DEVICE.lost = f"{type(error).__name__}: {error}"[:300]
                _leave_memory_to_the_driver()

    def _size(self, row_bytes: int) -> int:
        return max(1, min(self._chunk_rows, CHUNK_BYTES // row_bytes))

    def _in_chunks(
        self, rows: NDArray[np.float64], out: NDArray[Any], name: str, row_bytes: int, distance: int = -1
    ) -> None:
        """Compute what is kept of all rows: features, or scores.

        Args:
            rows: float64[B, F].
            out: float32[B, O] features or float64[B, M] scores, written.
            name: Which of them.
            row_bytes: Of the device's memory, that a row takes.
            distance: As the kernel of ranks takes it.
        """
        size = self._size(row_bytes)
        under_way: deque[tuple[StreamBuffers, NDArray[Any], slice]] = deque()
        for number, first in enumerate(range(0, len(rows), size)):
            if number >= 2:
                _collect(*under_way.popleft(), out)
            buffers, part = self._memory.stream(number % 2), slice(first, min(first + size, len(rows)))
            chunk = rows[part]
            count = len(chunk)
            shape = min(rounded(count), size), rows.shape[1]
            staged = buffers.pinned("rows", shape, np.float64)
            np.copyto(staged[:count], chunk)
            device_rows = buffers.device("rows", shape, np.float64)
            device_rows.copy_to_device(staged, stream=buffers.stream)
            program = self._memory.program
            result = device_rows if program is None else self._transform(buffers, device_rows, program, count)
            if name == "scores":
                result = self._evaluate(buffers, result, out.shape[1], distance, count)
            answer = buffers.pinned(name, (shape[0], out.shape[1]), out.dtype.type)
            result.copy_to_host(answer, stream=buffers.stream)
            under_way.append((buffers, answer[:count], part))
        while under_way:
            _collect(*under_way.popleft(), out)

    def _transform(self, buffers: StreamBuffers, rows: Any, program: Program, count: int | None = None) -> Any:
        """Launch the program: float32[>= B, O] on the device.

        Args:
            buffers: Of the stream.
            rows: float64[>= B, F] on the device.
            program: The one that is kept.
            count: B; None for all.
        """
        capacity = rows.shape[0]
        n_rows = capacity if count is None else count
        blocks = self._blocks(capacity, self._threads_per_block)
        threads = min(capacity, blocks * self._threads_per_block)
        launch = blocks, self._threads_per_block, buffers.stream
        work = buffers.device("work", (max(1, len(program.opcodes)), threads), np.float64)
        places = buffers.device("places", (capacity, max(1, len(program.points))), np.float64)
        features = buffers.device("features", (capacity, program.n_outputs), np.float32)
        self._kernels.transform[launch](rows, n_rows, *self._memory.program_arrays, work, places, features)
        for n_columns, arrays in self._memory.reference_arrays:
            descriptions = buffers.device("descriptions", (threads, max(1, n_columns)), np.float64)
            self._kernels.references[launch](places, n_rows, *arrays, descriptions, features)
        return features

    def _evaluate(
        self, buffers: StreamBuffers, features: Any, width: int, distance: int, count: int | None = None
    ) -> Any:
        """Launch the forests on float32[>= B, O] or float64[>= B, O] features: float64[>= B, M] on the device.

        Args:
            buffers: Of the stream.
            features: On the device.
            width: M.
            distance: As the kernel of ranks takes it.
            count: B; None for all.
        """
        _, packed, values = self._memory.forests[0]
        capacity = features.shape[0]
        n_rows = capacity if count is None else count
        n_columns = max(1, packed.columns.shape[0])
        ranks = buffers.device("ranks", (n_columns, capacity), np.uint16)
        scores = buffers.device("scores", (capacity, width), np.float64)
        blocks = max(
            min(-(-capacity // self._threads_per_block), self._max_blocks), -(-self._min_blocks // n_columns)
        )  # fmt: skip
        self._forest_kernels.ranks[(blocks, n_columns), self._threads_per_block, buffers.stream](
            features, n_rows, packed.columns, packed.thresholds, distance, ranks, scores
        )
        row_bits = self._row_bits(capacity)
        blocks = self._blocks(capacity, 1 << row_bits)
        self._forest_kernels.forest[blocks, self._forest_threads, buffers.stream](
            ranks, n_rows, packed.roots, packed.starts, packed.records, values, packed.sets, packed.set_starts,
            row_bits, scores,
        )  # fmt: skip
        return scores

    def _blocks(self, count: int, rows_per_block: int) -> int:
        return min(max(-(-count // rows_per_block), self._min_blocks), self._max_blocks)

    def _row_bits(self, count: int) -> int:
        """The logarithm of the rows of a block: 32, a warp's, where that makes enough blocks, or fewer.

        A block of few rows has the more threads for each, which share out the trees.
        """
        bits = min(MAX_ROW_BITS, self._forest_threads.bit_length() - 1)
        while bits > 0 and count < self._min_blocks << bits:
            bits -= 1
        return bits


def _leave_memory_to_the_driver() -> None:
    from numba import cuda

    with contextlib.suppress(Exception):
        _left_to_the_driver.enter_context(cuda.defer_cleanup())


@functools.cache
def _end_quietly() -> None:
    """Have numba free nothing at exit: it would do so in the main thread, which has no context.

    To be called after a first `weakref.finalize`, since exit handlers run the last one first.
    """

    def end() -> None:
        with contextlib.suppress(TimeoutError, RuntimeError):
            DEVICE.run(_leave_memory_to_the_driver, CLOSE_SECONDS)

    atexit.register(end)


def _on_device(pipeline: Pipeline) -> tuple[Forest, ...]:
    """The pipeline's forests, once it is known that the kernels stay within their arrays."""
    forests: list[Forest] = []
    for forest in pipeline.forests:
        if not isinstance(forest, Forest):
            raise TypeError(f"only LightGBM evaluates such a forest: {forest.status.reason}")
        forests.append(forest)
    if pipeline.program is None and not forests:
        raise ValueError("a pipeline must have a program or a forest")
    n_features = forests[0].n_features if pipeline.program is None else pipeline.program.n_outputs
    if any(forest.n_features != n_features for forest in forests):
        raise ValueError(f"all forests must take the {n_features} features that there are")
    if pipeline.distance is not None and not 0 <= pipeline.distance < n_features:
        raise ValueError(f"the distance must be one of {n_features} features, got {pipeline.distance}")
    return tuple(forests)


def _collect(buffers: StreamBuffers, answer: NDArray[Any], part: slice, out: NDArray[Any]) -> None:
    """Wait for a chunk. An error of a kernel surfaces here."""
    buffers.stream.synchronize()
    out[part] = answer


def _width(pipeline: Pipeline) -> int:
    """Scores of a row, with the distance; at least one."""
    return max(1, sum(forest.n_outputs for forest in pipeline.forests) + (pipeline.distance is not None))


def _row_bytes(pipeline: Pipeline) -> int:
    """What a row takes of the device's memory; at least one byte."""
    program, forests = pipeline.program, pipeline.forests
    raw = forests[0].n_features if program is None else program.n_inputs
    taken = max(1, 8 * raw)
    if program is not None:
        taken += 8 * max(1, len(program.points)) + 4 * program.n_outputs
    if forests:
        columns = sum(len(forest.predicates.columns) for forest in forests if isinstance(forest, Forest))
        taken += 2 * columns + 8 * _width(pipeline)
    return taken


def _out_of_memory(error: Exception) -> bool:
    """Whether the memory of the device or of the host was too little.

    numba's errors have the driver's code (CUresult and cudaError_t have the same), cuda-core's its name alone.
    """
    if isinstance(error, MemoryError) or getattr(error, "code", None) == OUT_OF_MEMORY:
        return True
    return "CUDA_ERROR_OUT_OF_MEMORY" in str(error) or "cudaErrorMemoryAllocation" in str(error)


def _driver_error(cuda: Any) -> str:
    """What the driver says of itself when it cannot be used."""
    try:
        cuda.current_context()
    except Exception as error:
        return " ".join(str(error).split())
    return "the CUDA driver or libNVVM cannot be loaded"
