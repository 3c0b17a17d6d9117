"""A forest's trees as contributions need them: for each edge the share of the training rows that would take it.

A feature's *share* on a path is the product of cover fractions at the path's nodes that test the feature. It belongs to
the path's edge, and to know how it grows each node knows the edge before it at which its feature was tested last.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.evaluators.traversal import AT_LEAF, Traversal
from kernels.forest.explanation.vectors import LANES
from kernels.forest.predicates import FEATURE, Predicates

EDGE, PREDICATE, USED, BEFORE = range(4)
"""Fields of a node."""

FIRST, NODES, LAST, POINTS, TABLE, RULE = range(6)
"""Fields of a tree."""

SHARE, VALUE = range(2)
"""Fields of an edge."""


class Paths(NamedTuple):
    """T trees of N nodes and S edges in all.

    A tree's edge 0 leads to its root from nowhere; edges 2 k + 1 and 2 k + 2 leave its node k to the right and to the
    left. Nodes whose children are both leaves come last, the others before them level by level.

    Attributes:
        nodes: uint32[N, 4], by the fields above: the edge to the node, of its tree; its predicate; its feature's place
            in `features`; the last edge of its tree above where the same feature was tested, 0 for none.
        trees: int64[T, 6], by the fields above: the first node; how many there are; how many of them come before those
            whose children are both leaves; points that integrate the polynomials exactly, a multiple of a vector's
            numbers; the last two are of the `Tables`.
        edges: float64[S, 2]: the product of the cover fractions of the edge's feature; the value of the leaf that it
            leads to, 1 if it leads to a node.
        features: int32[U], the features that are tested.
        base: float64[K], the mean score of the training rows.
    """

    nodes: NDArray[np.uint32]
    trees: NDArray[np.int64]
    edges: NDArray[np.float64]
    features: NDArray[np.int32]
    base: NDArray[np.float64]


def trace(walk: Traversal, counts: NDArray[np.int64], predicates: Predicates, n_outputs: int) -> Paths:
    """Find the paths of a forest.

    Args:
        walk: Its trees.
        counts: int64[S], training rows by record.
        predicates: Those of its nodes.
        n_outputs: K.
    """
    starts = np.append(walk.roots.astype(np.int64), len(walk.records))
    trees = np.zeros((len(walk.roots), 6), dtype=np.int64)
    trees[:, NODES] = (np.diff(starts) - 1) // 2
    trees[:, FIRST] = np.cumsum(trees[:, NODES]) - trees[:, NODES]
    features, used = np.unique(predicates.columns[:, FEATURE], return_inverse=True)
    nodes = np.zeros((int(trees[:, NODES].sum()), 4), dtype=np.uint32)
    edges = np.ones((len(walk.records), 2))
    _trace(walk.records, walk.values, starts, counts, used[predicates.column], trees, nodes, edges)
    leaf = walk.records & AT_LEAF != 0
    tree = np.repeat(np.arange(len(walk.roots)), np.diff(starts))
    weights = np.where(leaf, counts / np.maximum(counts[starts[tree]], 1), 0.0)
    weights[starts[:-1][np.diff(starts) == 1]] = 1.0
    means = np.bincount(tree, weights * walk.values, minlength=len(walk.roots))
    return Paths(
        nodes=nodes,
        trees=trees,
        edges=edges,
        features=features.astype(np.int32),
        base=means.reshape(-1, n_outputs).sum(axis=0),
    )


@njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
def _trace(records, leaf_values, starts, counts, of_predicate, trees, nodes, edges):
    """Write nodes and edges, and of trees what is known only then.

    Args:
        records: Of the `Traversal`.
        leaf_values: float64[S], by record.
        starts: int64[T + 1], where each tree's records start.
        counts: int64[S], by record.
        of_predicate: int64[P], each one's feature.
        trees: int64[T, 6], whose `LAST` and `POINTS` are written.
        nodes: uint32[N, 4], written.
        edges: float64[S, 2], ones; written.
    """
    for tree in range(len(trees)):
        first, count, deepest = starts[tree], starts[tree + 1] - starts[tree], 0
        edge_of = np.zeros(count, dtype=np.int32)
        above = np.zeros(count, dtype=np.int32)
        feature = np.full(count, -1, dtype=np.int32)
        distinct = np.zeros(count, dtype=np.int32)
        # Records are level by level, so a tree's nodes are numbered before their children are met.
        last = 0
        for place in range(count):
            record = records[first + place]
            if not record & AT_LEAF:
                last += not _ends(records, np.int64(record >> np.uint64(32)))
        node, end = 0, last
        trees[tree, LAST] = last
        for place in range(count):
            record, edge = records[first + place], edge_of[place]
            if record & AT_LEAF:
                deepest = max(deepest, distinct[edge])
                edges[first + edge, VALUE] = leaf_values[first + place]
                continue
            predicate = record & np.uint64(0xFFFFFFFF)
            tested = of_predicate[predicate]
            before = edge
            while before and feature[before] != tested:
                before = above[before]
            right = np.int64(record >> np.uint64(32))
            if _ends(records, right):
                number = end
                end += 1
            else:
                number = node
                node += 1
            fields = nodes[trees[tree, FIRST] + number]
            fields[EDGE], fields[PREDICATE], fields[USED], fields[BEFORE] = edge, predicate, tested, before
            for side in range(2):
                child = 2 * number + 1 + side
                edge_of[right - first + side] = child
                above[child], feature[child] = edge, tested
                distinct[child] = distinct[edge] + (before == 0)
                # A node that no training row came to has no fractions, and none matter: its share is zero.
                cover = counts[first + place]
                fraction = counts[right + side] / cover if cover else 0.5
                edges[first + child, SHARE] = edges[first + before, SHARE] * fraction
        trees[tree, POINTS] = (deepest + 2 * LANES - 1) // (2 * LANES) * LANES


@njit(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _ends(records, right):
    """Whether a node's children, the right one at a record, are both leaves."""
    return records[right] & AT_LEAF != 0 and records[right + 1] & AT_LEAF != 0
