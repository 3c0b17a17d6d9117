"""A forest's paths packed for a GPU, and how its explanation is divided."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.backend import OutOfDeviceMemory
from kernels.cuda.layout import words_of
from kernels.forest.explanation.paths import FIRST, LAST, NODES, PREDICATE, TABLE, Paths
from kernels.forest.explanation.tables import place_tables, table_sizes
from kernels.forest.forest import Forest

PARTS = 64
"""Sums that a row's contributions are added up from, each by a thread of its own: few rows make many."""

WORK_BYTES = 2**27
"""Device memory that the rows of a slice work in. Two slices are under way, and buffers may be twice as large."""

TABLE_BYTES = 2**26
"""Device memory of a slice for the tables of the trees of a round, or as much as the largest tree takes."""

WARP = 32


class PackedPaths(NamedTuple):
    """Paths as the kernels take them, C-contiguous arrays.

    Attributes:
        owners: int32[N], the tree of each node.
        trees: int64[T, 6], as of the `Tables`, with a place for each table.
        nodes: uint32[N, 4], as of the `Paths`, with the lower half of the node's word (`kernels.cuda.layout`) in place
            of its predicate.
        edges: float64[S, 2], as of the `Paths`.
        rules: float64, as of the `Tables`.
    """

    owners: NDArray[np.int32]
    trees: NDArray[np.int64]
    nodes: NDArray[np.uint32]
    edges: NDArray[np.float64]
    rules: NDArray[np.float64]


class Round(NamedTuple):
    """Consecutive trees whose tables are on the device at a time.

    Attributes:
        trees: The first one, and one after the last.
        nodes: Likewise.
        start: Where the first one's table starts among all.
    """

    trees: tuple[int, int]
    nodes: tuple[int, int]
    start: int


class Division(NamedTuple):
    """How an explanation is divided among threads and in time. It does not depend on the rows, so neither do the bits.

    Attributes:
        n_parts: P, a multiple of the outputs: part p has the trees p, p + P, and so on.
        rounds: One after the other.
        table_size: Numbers in the tables of the largest round.
        n_nodes: Nodes of the largest tree.
        n_edges: Edges of a tree that a thread keeps products of, at most: those above a node that has a node below.
        n_columns: Contributions of a row: outputs times tested features.
        n_used: Tested features.
    """

    n_parts: int
    rounds: tuple[Round, ...]
    table_size: int
    n_nodes: int
    n_edges: int
    n_columns: int
    n_used: int

    def slice_rows(self, row_bytes: int) -> int:
        """Rows that are explained at a time.

        Args:
            row_bytes: What a row takes besides.

        Raises:
            OutOfDeviceMemory: A single row takes more than is allowed.
        """
        rows = WORK_BYTES // (row_bytes + 8 * self.n_columns + self.n_parts * _part_bytes(self))
        if not rows:
            raise OutOfDeviceMemory(f"an explanation of one row takes more than {WORK_BYTES >> 20} MiB")
        return rows


def pack_paths(forest: Forest, paths: Paths) -> tuple[PackedPaths, Division]:
    """Pack the paths of a forest, or of its first trees. There must be a tree."""
    trees, rules = place_tables(paths)
    nodes = paths.nodes.copy()
    nodes[:, PREDICATE] = words_of(forest, 0, 0)[paths.nodes[:, PREDICATE]].astype(np.uint32)
    owners = np.repeat(np.arange(len(trees), dtype=np.int32), trees[:, NODES])
    return PackedPaths(owners, trees, nodes, paths.edges, rules), _divide(trees, len(paths.features), forest.n_outputs)


def _divide(trees: NDArray[np.int64], n_used: int, n_outputs: int) -> Division:
    sizes = table_sizes(trees)
    rounds = tuple(_rounds(trees, sizes))
    division = Division(
        n_parts=n_outputs,
        rounds=rounds,
        table_size=max(1, *(int(sizes[slice(*part.trees)].sum()) for part in rounds)),
        n_nodes=max(1, int(trees[:, NODES].max())),
        n_edges=2 * int(trees[:, LAST].max()) + 1,
        n_columns=n_outputs * n_used,
        n_used=n_used,
    )
    groups = max(1, min(len(trees) // n_outputs, PARTS // n_outputs))
    while groups > 1 and WARP * n_outputs * groups * _part_bytes(division) > WORK_BYTES:
        groups //= 2
    return division._replace(n_parts=n_outputs * groups)


def _rounds(trees: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[Round]:
    first, rounds = 0, list[Round]()
    ends, node_ends = trees[:, TABLE] + sizes, trees[:, FIRST] + trees[:, NODES]
    while first < len(trees):
        start = int(trees[first, TABLE])
        end = max(first + 1, int(np.searchsorted(ends, start + TABLE_BYTES // 8, side="right")))
        rounds.append(Round((first, end), (int(trees[first, FIRST]), int(node_ends[end - 1])), start))
        first = end
    return rounds


def _part_bytes(division: Division) -> int:
    """Bytes of a row's part: states of nodes, products, sums."""
    return division.n_nodes + 8 * division.n_edges + 8 * division.n_used
