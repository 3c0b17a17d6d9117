"""An NVIDIA GPU as a target, through numba-cuda (an optional extra).

Importing this module needs neither a GPU nor numba-cuda; making a `CudaBackend` needs both.
"""

import atexit
import contextlib
import functools
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Outcome, OutOfDeviceMemory, Pipeline
from kernels.cuda import availability
from kernels.cuda.buffers import StreamBuffers, rounded
from kernels.cuda.device_thread import DEVICE
from kernels.cuda.memory import DeviceMemory, out_of_memory
from kernels.cuda.pairing import pairs
from kernels.cuda.pipeline import forests_of, row_bytes, width
from kernels.forest.explanation.paths import Paths
from kernels.plan.program import Program, pack
from kernels.rows import as_rows

T = TypeVar("T")
Compute = Callable[[StreamBuffers, Any, int], Any]

CHUNK_BYTES = 2**28
"""Device memory for the rows of a chunk."""

CLOSE_SECONDS = 5.0
"""Longest wait for a device that hangs."""

_left_to_the_driver = contextlib.ExitStack()
"""Keeps numba from freeing memory where the driver would refuse to, with a warning for each piece."""


class CudaBackend:
    """Transforms a batch, and evaluates forests on it, with one round trip to the device.

    Three launches do it: the stateless steps, the ranks of the features, all forests; and one more for each pair of
    reference steps, a search for neighbours and a Gaussian process, which read the stored rows together. (numba-cuda
    has no interface to CUDA's graphs, which would make one launch of them.) Arithmetic is the CPU's, to the bit for
    forests; labels of stored rows are not known here, since only training leaves stored rows out.

    A large batch is split into chunks, alternately in two streams: while the device computes one, the next is copied.
    Program, forests and buffers stay on the device between calls. All work on the device happens in its one thread, so
    calls from any thread are safe, and queue. A CUDA error is raised by the call. After one other than
    `OutOfDeviceMemory` the backend should not be used again; if it killed the process's context, no other backend can
    be made either. Memory is freed when the backend is closed or collected.

    Args:
        threads_per_block: Threads of a block, except in the forests' kernel.
        forest_threads: Threads of a block in the forests' kernel, a power of two.
        min_blocks: Blocks of the smallest grid. numba warns of grids below 128 blocks, and warnings can be errors; idle
            blocks cost nothing.
        max_blocks: Blocks of the largest grid; beyond it threads stride over the rows.
        chunk_rows: Most rows of a chunk.

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
        reason = availability.cuda_unavailable_reason()
        if reason is not None:
            raise availability.CudaUnavailableError(reason)
        from numba import cuda

        from kernels.cuda.launcher import Launcher

        self._cuda: Any = cuda
        self._chunk_rows = chunk_rows
        self._memory = DeviceMemory(cuda)
        self.launcher = Launcher(self._memory, threads_per_block, forest_threads, min_blocks, max_blocks)
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
        return self._size(row_bytes(pipeline))

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
            self._in_chunks(rows, features, "features", self._size(row_bytes(Pipeline(program, ()))), None)
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
        program, forests, distance = pipeline.program, forests_of(pipeline), pipeline.distance
        rows = as_rows(X, forests[0].n_features if program is None else program.n_inputs)

        def work() -> NDArray[np.float64]:
            self._memory.keep(program)
            self._memory.keep_forests(forests)
            scores = np.empty((len(rows), width(pipeline)))
            self._score(rows, scores, self._size(row_bytes(pipeline)), -1 if distance is None else distance)
            return scores

        scores = self._run(work)
        first, predictions = 0, []
        for forest in forests:
            own = np.ascontiguousarray(scores[:, first : first + forest.n_outputs])
            predictions.append(forest.finished(own, raw_score))
            first += forest.n_outputs
        return Outcome(tuple(predictions), None if distance is None else scores[:, -1].astype(np.float32))

    def explain(self, pipeline: Pipeline, X: NDArray[np.floating], paths: Paths) -> NDArray[np.float64]:
        """Contributions of the forest's features to its raw scores: see `Explains`.

        Rows go in slices that work in `WORK_BYTES` each, and trees in rounds whose tables take `TABLE_BYTES`. A row's
        bits do not depend on its batch.
        """
        program, (forest,) = pipeline.program, forests_of(pipeline)
        rows = as_rows(X, forest.n_features if program is None else program.n_inputs)
        contributions = np.zeros((len(rows), forest.n_outputs, forest.n_features))
        if not len(paths.features):
            return contributions

        def work() -> NDArray[np.float64]:
            self._memory.keep(program)
            self._memory.keep_forests((forest,))
            kept = self._memory.keep_paths(forest, paths)
            found = np.empty((len(rows), kept.division.n_columns))
            size = min(self._chunk_rows, kept.division.slice_rows(row_bytes(pipeline)))
            self._in_chunks(rows, found, "contributions", size, partial(self.launcher.explain, kept))
            return found

        contributions[:, :, paths.features] = self._run(work).reshape(*contributions.shape[:2], len(paths.features))
        return contributions

    def warm_up(self, pipeline: Pipeline | None = None) -> None:
        """Create the context and compile the kernels, in the calling thread: other callers need the device's.

        No forest is needed, since forests are data. The kernel of reference steps, which takes longest, is compiled for
        a pipeline that has such steps.
        """
        program = None if pipeline is None else pipeline.program
        self.launcher.compile(program is not None and any(True for _ in pairs(program)))
        row = np.zeros((1, 1))
        self.evaluate(Pipeline(pack(("x",), (), ("x",)), (), 0), row)

        def work() -> None:
            self._memory.keep(None)
            self._memory.keep_forests(())
            self._score(row, np.empty((1, 1)), 1, 0)

        self._run(work)

    def _run(self, work: Callable[[], T]) -> T:
        """Run work in the device's thread, and free all buffers when memory runs out."""
        return DEVICE.run(lambda: self._work(work))

    def _work(self, work: Callable[[], T]) -> T:
        if self._memory.closed:
            raise RuntimeError("the backend is closed")
        self._cuda.current_context()  # outside the handler: no context is not a dead one
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
                self._look_for_death(error)
                raise
            said = " ".join(str(error).split())
        # Outside the handler, since the error refers to frames, and these to buffers.
        self._memory.free_buffers()
        raise OutOfDeviceMemory(f"the device's memory does not suffice: {said}")

    def _look_for_death(self, error: Exception) -> None:
        """Record an error that killed the context: every later call would raise it again."""
        try:
            self._cuda.synchronize()
        except Exception:
            if DEVICE.lost is None:
                DEVICE.lost = f"{type(error).__name__}: {error}"[:300]
                _leave_memory_to_the_driver()

    def _size(self, row_bytes: int) -> int:
        return max(1, min(self._chunk_rows, CHUNK_BYTES // row_bytes))

    def _score(self, rows: NDArray[np.float64], scores: NDArray[np.float64], size: int, distance: int) -> None:
        """Write the scores float64[B, M] by the forests that are kept."""

        def compute(buffers: StreamBuffers, features: Any, count: int) -> Any:
            return self.launcher.evaluate(buffers, features, scores.shape[1], distance, count)

        self._in_chunks(rows, scores, "scores", size, compute)

    def _in_chunks(
        self, rows: NDArray[np.float64], out: NDArray[Any], name: str, size: int, compute: Compute | None
    ) -> None:
        """Compute what is kept of all rows.

        Args:
            rows: float64[B, F].
            out: [B, columns], written.
            name: What it holds.
            size: Most rows of a chunk.
            compute: Launches what makes it of the features of a chunk; None where it is these.
        """
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
            result = device_rows if program is None else self.launcher.transform(buffers, device_rows, program, count)
            if compute is not None:
                result = compute(buffers, result, count)
            answer = buffers.pinned(name, (shape[0], out.shape[1]), out.dtype.type)
            result.copy_to_host(answer, stream=buffers.stream)
            under_way.append((buffers, answer[:count], part))
        while under_way:
            _collect(*under_way.popleft(), out)


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


def _collect(buffers: StreamBuffers, answer: NDArray[Any], part: slice, out: NDArray[Any]) -> None:
    """Wait for a chunk. An error of a kernel surfaces here."""
    buffers.stream.synchronize()
    out[part] = answer
