"""The program, forests, paths and buffers that stay on a GPU between calls."""

import contextlib
import operator
from typing import Any, NamedTuple

import numpy as np

from kernels.cuda.buffers import StreamBuffers
from kernels.cuda.layout import PackedForests, pack_forests
from kernels.cuda.pairing import pairs, searched_whole
from kernels.cuda.paths import Division, PackedPaths, pack_paths
from kernels.forest.explanation.paths import Paths
from kernels.forest.forest import Forest
from kernels.plan.program import Program

OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY and cudaErrorMemoryAllocation."""


class DeviceForests(NamedTuple):
    """Forests packed on the device; `values` is their records viewed as float64, since a leaf's record is its value."""

    forests: tuple[Forest, ...]
    arrays: PackedForests
    values: Any


class DevicePaths(NamedTuple):
    """Paths packed on the device, and how their explanation is divided."""

    paths: Paths
    arrays: PackedPaths
    division: Division


class DeviceMemory:
    """A program, forests, paths, and streams with their buffers. All methods are for the device's thread.

    Args:
        cuda: numba.cuda.

    Attributes:
        closed: Whether all memory is freed for good.
        program: The program on the device; None for none.
        program_arrays: Its arrays.
        reference_arrays: Of each launch of its reference steps the number of described columns, and the arrays.
        forests: Forests on the device, the most recently used first.
        paths: Paths on the device; None for none.
        streams: Streams in use.
    """

    def __init__(self, cuda: Any) -> None:
        self.closed = False
        self.program: Program | None = None
        self.program_arrays: tuple[Any, ...] = ()
        self.reference_arrays: list[tuple[int, tuple[Any, ...]]] = []
        self.forests: list[DeviceForests] = []
        self.paths: DevicePaths | None = None
        self.streams: list[StreamBuffers] = []
        self._cuda = cuda

    def keep(self, program: Program | None) -> None:
        """Put a program's arrays on the device, in place of the last one's: an engine has one program."""
        if self.program is program:
            return
        self.program = None
        self.reference_arrays = []
        self.program_arrays = ()
        if program is None:
            return
        self.program_arrays = tuple(self._cuda.to_device(array) for array in program.arrays())
        self.reference_arrays = [
            (len(near.columns), tuple(self._cuda.to_device(array) for array in (*searched_whole(near), *mean)))
            for near, mean in pairs(program)
        ]
        # Copies from memory that is not pinned may still be under way, and the kernels run in other streams.
        self._cuda.synchronize()
        self.program = program

    def keep_forests(self, forests: tuple[Forest, ...]) -> None:
        """Have forests on the device, the first of `self.forests`.

        An engine evaluates its first forest or all of them, so the two tuples used last are kept.
        """
        for kept in self.forests:
            if len(kept.forests) == len(forests) and all(map(operator.is_, kept.forests, forests)):
                break
        else:
            del self.forests[1:]
            arrays = PackedForests(*(self._cuda.to_device(array) for array in pack_forests(forests)))
            self._cuda.synchronize()
            kept = DeviceForests(forests, arrays, arrays.records.view(np.float64))
        self.forests = [kept, *(other for other in self.forests if other is not kept)]

    def keep_paths(self, forest: Forest, paths: Paths) -> DevicePaths:
        """Have a forest's paths on the device, in place of the last ones: an engine explains one forest."""
        if self.paths is None or self.paths.paths is not paths:
            self.paths = None
            packed, division = pack_paths(forest, paths)
            arrays = PackedPaths(*(self._cuda.to_device(array) for array in packed))
            self._cuda.synchronize()
            self.paths = DevicePaths(paths, arrays, division)
        return self.paths

    def stream(self, number: int) -> StreamBuffers:
        """One of the streams; the number is at most one more than the last."""
        if number == len(self.streams):
            self.streams.append(StreamBuffers(self._cuda))
        return self.streams[number]

    def free_buffers(self) -> None:
        """Free all buffers, and what was let go of before and is not freed yet."""
        for stream in self.streams:
            stream.release()
        # numba frees later, and pinned memory never for the sake of an allocation; its simulator has no such list.
        manager = getattr(self._cuda.current_context(), "memory_manager", None)
        if manager is not None:
            manager.deallocations.clear()

    def close(self) -> None:
        """Free all for good."""
        if self.closed:
            return
        self.closed = True
        self.keep(None)
        self.forests.clear()
        self.paths = None
        with contextlib.suppress(Exception):  # of a context that has died, and its memory with it
            self.free_buffers()
        self.streams.clear()


def out_of_memory(error: Exception) -> bool:
    """Whether the memory of the device or of the host was too little.

    numba's errors have the driver's code (CUresult and cudaError_t have the same), cuda-core's its name alone.
    """
    if isinstance(error, MemoryError) or getattr(error, "code", None) == OUT_OF_MEMORY:
        return True
    return "CUDA_ERROR_OUT_OF_MEMORY" in str(error) or "cudaErrorMemoryAllocation" in str(error)
