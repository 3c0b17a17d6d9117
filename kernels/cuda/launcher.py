"""Launches of the kernels, and the sizes of their grids."""

from typing import Any

import numpy as np

from kernels.cuda import contributions, forest, references, steps
from kernels.cuda.buffers import StreamBuffers
from kernels.cuda.memory import DeviceMemory, DevicePaths
from kernels.plan.program import Program

MAX_ROW_BITS = 5

MOST_BLOCKS_DOWN = 2**16 - 1
"""Rows of a grid that a device takes."""


class Launcher:
    """Launches what a `DeviceMemory` keeps on arrays of the device. All but `compile` is for the device's thread.

    Importing this module imports numba.cuda and all kernels.

    Args:
        memory: Program and forests on the device.
        threads_per_block: Threads of a block, but for the forests' kernel.
        forest_threads: Threads of a block that evaluates forests, a power of two.
        min_blocks: The smallest grid. numba warns of grids below 128 blocks, and warnings can be errors; idle blocks
            cost nothing.
        max_blocks: The largest grid; beyond it threads stride over the rows.
    """

    def __init__(
        self, memory: DeviceMemory, threads_per_block: int, forest_threads: int, min_blocks: int, max_blocks: int
    ) -> None:
        # Without types, since numba's stubs have none for a kernel that is launched.
        self._steps: Any = steps
        self._references: Any = references
        self._forest: Any = forest
        self._contributions: Any = contributions
        self._memory = memory
        self._threads_per_block = threads_per_block
        self._forest_threads = forest_threads
        self._min_blocks = min_blocks
        self._max_blocks = max_blocks

    def compile(self, with_references: bool) -> None:
        """Compile the kernels, in the calling thread; the one of reference steps, which takes longest, on request."""
        referring = [self._references] if with_references else []
        for module in (self._steps, *referring, self._forest, self._contributions):
            for name, signatures in module.SIGNATURES.items():
                compile_ = getattr(getattr(module, name), "compile", None)  # numba's simulator compiles nothing
                if compile_ is not None:
                    for signature in signatures if isinstance(signatures, list) else [signatures]:
                        compile_(signature)

    def transform(self, buffers: StreamBuffers, rows: Any, program: Program, count: int | None = None) -> Any:
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
        self._steps.transform[launch](rows, n_rows, *self._memory.program_arrays, work, places, features)
        for n_columns, arrays in self._memory.reference_arrays:
            descriptions = buffers.device("descriptions", (threads, max(1, n_columns)), np.float64)
            self._references.references[launch](places, n_rows, *arrays, descriptions, features)
        return features

    def evaluate(
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
        scores = buffers.device("scores", (capacity, width), np.float64)
        ranks = self._rank(buffers, features, n_rows, distance, scores)
        row_bits = self._row_bits(capacity)
        blocks = self._blocks(capacity, 1 << row_bits)
        self._forest.forest[blocks, self._forest_threads, buffers.stream](
            ranks, n_rows, packed.roots, packed.starts, packed.records, values, packed.sets, packed.set_starts,
            row_bits, scores,
        )  # fmt: skip
        return scores

    def explain(self, paths: DevicePaths, buffers: StreamBuffers, features: Any, count: int) -> Any:
        """Launch contributions by the first forest that is kept: float64[>= B, K * U] on the device.

        Args:
            paths: The forest's.
            buffers: Of the stream.
            features: As `evaluate` takes them.
            count: B.
        """
        division, arrays, packed = paths.division, paths.arrays, self._memory.forests[0].arrays
        capacity, n_parts, n_columns = features.shape[0], division.n_parts, division.n_columns
        out = buffers.device("contributions", (capacity, n_columns), np.float64)
        ranks = self._rank(buffers, features, count, -1, out)
        table = buffers.device("table", (1, division.table_size), np.float64)
        states = buffers.device("states", (n_parts * division.n_nodes, capacity), np.uint8)
        products = buffers.device("products", (n_parts * division.n_edges, capacity), np.float64)
        sums = buffers.device("sums", (n_parts * division.n_used, capacity), np.float64)
        threads, stream = self._threads_per_block, buffers.stream
        for trees, nodes, start in division.rounds:
            blocks = self._blocks(nodes[1] - nodes[0], threads)
            self._contributions.tabulate[blocks, threads, stream](*nodes, *arrays, start, table)
            self._contributions.contributions[self._grid(capacity, n_parts), threads, stream](
                ranks, count, *trees, n_parts, arrays.trees, arrays.nodes, packed.sets, packed.set_starts, start,
                table, states, products, sums,
            )  # fmt: skip
        self._contributions.add_parts[self._grid(capacity, n_columns), threads, stream](
            sums, count, n_parts, n_columns // division.n_used, out
        )
        return out

    def _rank(self, buffers: StreamBuffers, features: Any, n_rows: int, distance: int, scores: Any) -> Any:
        """Launch the ranks of the features: uint16[V, >= B] on the device."""
        packed = self._memory.forests[0].arrays
        capacity, n_columns = features.shape[0], max(1, packed.columns.shape[0])
        ranks = buffers.device("ranks", (n_columns, capacity), np.uint16)
        self._forest.ranks[self._grid(capacity, n_columns), self._threads_per_block, buffers.stream](
            features, n_rows, packed.columns, packed.thresholds, distance, ranks, scores
        )
        return ranks

    def _grid(self, count: int, down: int) -> tuple[int, int]:
        """Blocks of a grid with a thread for each of so many rows, and so many times."""
        across = min(-(-count // self._threads_per_block), self._max_blocks)
        return max(across, -(-self._min_blocks // down)), min(down, MOST_BLOCKS_DOWN)

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
