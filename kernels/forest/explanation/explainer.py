"""Why a forest gives its scores: contributions of features, and the leaves that a row comes to."""

import threading
import time
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.forest.evaluators.traversal import Traversal
from kernels.forest.explanation import contributions as kernel
from kernels.forest.explanation import leaves as leaf_kernel
from kernels.forest.explanation.covers import Covers
from kernels.forest.explanation.paths import NODES, TABLE, Paths, trace
from kernels.forest.explanation.tables import Tables, make_tables, table_sizes
from kernels.forest.explanation.vectors import ROWS, VECTOR_BYTES
from kernels.forest.predicates import Predicates
from kernels.rows import as_rows

UNCOUNTED = "the model's text does not tell how many training rows came to each node"
TOO_DEEP = "the model's trees test so many features on a path that an explanation takes too much memory"

MOST_NUMBERS = 2**25
"""Most numbers of the table of a tree: 256 MiB."""

MEASURED_NODES = 10_000
"""Nodes of the trees that are measured, unless the first trees of all outputs have more."""
MEASURED_ROWS = 64

BLOCK_BYTES = 2**18
"""Bytes that the rows of a block work in: half of a core's second cache."""
MOST_ROWS = 64


class ExplanationCost(NamedTuple):
    """Seconds that explanations take.

    Attributes:
        alone: One row.
        each: Each of many rows.
        first: What the first explanation takes longer.
    """

    alone: float
    each: float
    first: float

    def of(self, rows: int) -> float:
        """Seconds of a batch, after the first one."""
        return self.alone + max(0, rows - 1) * self.each


class ForestExplainer(Protocol):
    """Explains a forest's raw scores.

    Attributes:
        reason: Why it cannot; None if it can.
    """

    reason: str | None

    @property
    def ready(self) -> bool:
        """Whether the next explanation has nothing to prepare."""
        ...

    def base(self) -> NDArray[np.float64]:
        """float64[K]: the mean raw score of the training rows."""
        ...

    def contributions(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """float64[B, K, F]: what each feature adds to the raw scores, on top of `base`.

        Args:
            X: float64[B, F] or float32[B, F]; NaN is a missing value.
        """
        ...

    def leaves(self, X: NDArray[np.floating]) -> NDArray[np.int32]:
        """int32[B, T]: the leaf of each tree that a row comes to, as LightGBM numbers them."""
        ...

    def measure(self, rows: NDArray[np.floating]) -> ExplanationCost:
        """Compile or load the kernels, and measure what explanations cost.

        Args:
            rows: float64[B, F] or float32[B, F], B >= 1.
        """
        ...


class _Prepared(NamedTuple):
    paths: Paths
    tables: Tables
    sizes: tuple[int, int, int, int]


class KernelExplainer:
    """Explains the trees that the kernels evaluate. Safe to call from several threads at once.

    What only explanations need is made at the first one, in about as much time as some dozens of rows take, and kept.
    """

    def __init__(
        self, walk: Traversal, covers: Covers, predicates: Predicates, n_features: int, n_outputs: int
    ) -> None:
        self._walk, self._covers, self._predicates = walk, covers, predicates
        self._n_features, self._n_outputs = n_features, n_outputs
        self._prepared: _Prepared | None = None
        self._lock = threading.Lock()
        self.reason: str | None = None
        if not covers.counted:
            self.reason = UNCOUNTED
        elif covers.largest > MOST_NUMBERS:
            self.reason = TOO_DEEP

    @property
    def ready(self) -> bool:
        """See `ForestExplainer`."""
        return self._prepared is not None

    def base(self) -> NDArray[np.float64]:
        """See `ForestExplainer`."""
        return self._ready().paths.base

    def contributions(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """See `ForestExplainer`."""
        return self._run(self._ready(), as_rows(X, self._n_features))

    def memory(self) -> int:
        """Bytes that are kept for contributions; none before the first."""
        if self._prepared is None:
            return 0
        return sum(part.nbytes for part in (*self._prepared.paths, *self._prepared.tables))

    @property
    def paths(self) -> Paths:
        """The trees as contributions need them, for other backends; always the same object."""
        return self._ready().paths

    def measured_part(self) -> tuple[Paths, float]:
        """The first trees, of which an explanation is measured, and how many times as large all of them are."""
        paths = self._trace(self._measured_trees())
        return paths, max(1, len(self._walk.records)) / max(1, len(paths.edges))

    def leaves(self, X: NDArray[np.floating]) -> NDArray[np.int32]:
        """See `ForestExplainer`."""
        rows, walk, predicates = as_rows(X, self._n_features), self._walk, self._predicates
        out = np.empty((len(rows), len(walk.roots)), dtype=np.int32)
        leaf_kernel.leaves(
            rows, predicates.columns, predicates.thresholds, predicates.sets, predicates.column, predicates.rank,
            walk.records, walk.roots, self._covers.numbers, out,
        )  # fmt: skip
        return out

    def measure(self, rows: NDArray[np.floating]) -> ExplanationCost:
        """See `ForestExplainer`. Measures the first trees, since there may be so many that a row takes long."""
        walk, count = self._walk, self._measured_trees()
        many = as_rows(np.resize(rows, (MEASURED_ROWS, self._n_features)), self._n_features)
        self._run(self._prepare(count), many)  # compiled or loaded
        self._run(self._prepare(count), many[:1])
        started = time.perf_counter()
        part = self._prepare(count)
        times = [started, time.perf_counter()]
        for batch in (many, many[:1]):
            self._run(part, batch)
            times.append(time.perf_counter())
        first, each, alone = np.diff(times) * max(1, len(walk.records)) / max(1, len(part.paths.edges))
        return ExplanationCost(float(alone), float(each) / MEASURED_ROWS, float(first))

    def _measured_trees(self) -> int:
        roots, outputs = self._walk.roots, self._n_outputs
        return max(int(np.searchsorted(roots, 2 * MEASURED_NODES)) // outputs, 1) * outputs if len(roots) else 0

    def _ready(self) -> _Prepared:
        if self._prepared is None:
            with self._lock:
                if self._prepared is None:
                    self._prepared = self._prepare(len(self._walk.roots))
        return self._prepared

    def _trace(self, n_trees: int) -> Paths:
        """The paths of the first trees."""
        walk = self._walk
        end = int(walk.roots[n_trees]) if n_trees < len(walk.roots) else len(walk.records)
        part = Traversal(walk.records[:end], walk.roots[:n_trees], walk.values[:end])
        return trace(part, self._covers.counts[:end], self._predicates, self._n_outputs)

    def _prepare(self, n_trees: int) -> _Prepared:
        """Prepare the first trees."""
        paths, predicates = self._trace(n_trees), self._predicates
        tables = make_tables(paths)
        made = table_sizes(tables.trees)[tables.trees[:, TABLE] < 0].max(initial=0)
        row_bytes = len(predicates.column) + VECTOR_BYTES * len(paths.features)
        block = max(1, min(MOST_ROWS, BLOCK_BYTES // max(1, row_bytes)) // ROWS) * ROWS
        sizes = (len(predicates.column), block, int(paths.trees[:, NODES].max(initial=0)), int(made))
        return _Prepared(paths, tables, sizes)

    def _run(self, prepared: _Prepared, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        (paths, tables, sizes), predicates = prepared, self._predicates
        out = np.zeros((len(rows), self._n_outputs, self._n_features))
        kernel.contributions(
            rows, predicates.columns, predicates.thresholds, predicates.sets, paths.nodes, paths.edges, paths.features,
            tables.trees, tables.rules, tables.values, sizes, out,
        )  # fmt: skip
        return out
