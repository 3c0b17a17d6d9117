"""Rows for which a forest may predict no finite number: those that reach its extreme leaves.

A row's score lies between the sums of all trees' least and greatest leaves, and what objectives make of it is monotone:
where both ends are finite, so is every prediction, as it is for nearly all forests. For the others, the way to each
tree's extreme leaf is a list of tests with their outcomes. Ways are combined, the most extreme trees first, as long as
some row has all these outcomes. How long that takes depends on the forest, so the search has a time limit.
"""

import time

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.forest.evaluators.traversal import AT_LEAF
from kernels.forest.forest import Forest
from kernels.forest.predicates import CATEGORIES, COUNT, FEATURE, FIRST, KIND, Predicates, in_set, rank

MOST_OUTPUTS, MOST_TREES, MOST_STARTS = 8, 256, 4
"""Limits of the search: outputs, trees of each output, and trees to start from."""

MOST_CATEGORIES = 16
"""Most categories of a set that are tried."""

MOST_SETS = 64
"""Most tests of sets of categories of one feature on ways that are combined."""

SEARCH_SECONDS = 1.0

LOWER_HALF = np.uint64(2**32 - 1)

Asked = list[tuple[int, bool]]
"""Predicates, and whether a row must go left there."""

Questions = dict[int, Asked]
"""Tests by feature, reduced by `_tightest`."""


def all_finite(forest: Forest) -> bool:
    """Whether every combination of leaves, reached by a row or not, has a finite prediction."""
    with np.errstate(invalid="ignore", over="ignore"):
        # Added up in the order in which a row's are, so that rounding takes no row beyond them.
        scores = np.array([_score(_extremes(forest, sign), forest.n_outputs) for sign in (1.0, -1.0)])
    return bool(np.isfinite(scores).all() and np.isfinite(forest.finished(scores, raw_score=False)).all())


def extreme_rows(forest: Forest, seconds: float = SEARCH_SECONDS) -> NDArray[np.float64]:
    """Rows that reach as many of the trees' greatest leaves, or least leaves, as are found: float64[N, F].

    Features that do not matter are 0, others whole numbers where these do.

    Args:
        forest: Any forest.
        seconds: Time limit of the search.
    """
    rows: list[NDArray[np.float64]] = []
    deadline = time.monotonic() + seconds
    for sign in (1.0, -1.0):
        values = sign * _extremes(forest, sign)
        for output in range(min(forest.n_outputs, MOST_OUTPUTS)):
            trees = np.arange(output, forest.n_trees, forest.n_outputs)
            trees = trees[np.argsort(-values[trees], kind="stable")][:MOST_TREES]
            paths = [_path(forest, tree, sign) for tree in trees.tolist() if time.monotonic() < deadline]
            rows += [_row(forest, [start, *paths], deadline) for start in paths[:MOST_STARTS]]
    return np.array(rows).reshape(-1, forest.n_features)


def _extremes(forest: Forest, sign: float) -> NDArray[np.float64]:
    """float64[T], the greatest leaf of each tree, or the least if `sign` is -1."""
    walk = forest.traversal
    if not len(walk.roots):
        return np.zeros(0)
    values = np.where(walk.records & AT_LEAF != 0, sign * walk.values, -np.inf)
    return sign * np.maximum.reduceat(values, walk.roots)


def _score(values: NDArray[np.float64], n_outputs: int) -> NDArray[np.float64]:
    """float64[K], the sums of float64[T]."""
    return np.add.accumulate(np.concatenate([np.zeros(n_outputs), values]).reshape(-1, n_outputs))[-1]


def _path(forest: Forest, tree: int, sign: float) -> Questions:
    """The way to a tree's greatest leaf, or to its least if `sign` is -1."""
    walk, predicates = forest.traversal, forest.predicates
    root, end = np.append(walk.roots, len(walk.records))[tree : tree + 2].tolist()
    records = walk.records[root:end]
    is_leaf = records & AT_LEAF != 0
    inner = np.flatnonzero(~is_leaf)
    parents = np.zeros(len(records), dtype=np.int64)  # of right children
    parents[(records[inner] >> np.uint64(32)).astype(np.int64) - root] = inner
    place = int(np.argmax(np.where(is_leaf, sign * walk.values[root:end], -np.inf)))
    questions: Questions = {}
    while place:
        left = place % 2 == 0  # children stand side by side behind the root, the right one first
        place = int(parents[place - left])
        predicate = int(records[place] & LOWER_HALF)
        feature = int(predicates.columns[predicates.column[predicate], FEATURE])
        questions.setdefault(feature, []).append((predicate, left))
    return {feature: _tightest(predicates, asked) for feature, asked in questions.items()}


def _tightest(predicates: Predicates, asked: Asked) -> Asked:
    """The tests of a feature that decide all its other ones: for numbers, two in each column."""
    kept: dict[tuple[int, bool], int] = {}
    for predicate, left in asked:
        column = int(predicates.column[predicate])
        if predicates.columns[column, KIND] == CATEGORIES:
            kept[-1 - predicate, left] = predicate
            continue
        known = kept.get((column, left))
        if known is None or bool(predicates.rank[predicate] < predicates.rank[known]) == left:
            kept[column, left] = predicate
    return [(predicate, left) for (_, left), predicate in kept.items()]


def _row(forest: Forest, paths: list[Questions], deadline: float) -> NDArray[np.float64]:
    """float64[F]: a row that goes the first way, and those others that are compatible and examined in time."""
    row = np.zeros(forest.n_features)
    joined: Questions = {}
    for path in paths:
        if time.monotonic() >= deadline:
            break
        together = {
            feature: _tightest(forest.predicates, joined.get(feature, []) + asked) for feature, asked in path.items()
        }
        values = {feature: _value(forest.predicates, asked) for feature, asked in together.items()}
        if None not in values.values():
            joined |= together
            for feature, value in values.items():
                row[feature] = value
    return row


def _value(predicates: Predicates, questions: Asked) -> float | None:
    """A value of a feature with all these outcomes; None if none is found."""
    asked = np.array([predicate for predicate, _ in questions])
    left = np.array([goes_left for _, goes_left in questions])
    if np.count_nonzero(predicates.columns[predicates.column[asked], KIND] == CATEGORIES) > MOST_SETS:
        return None
    candidates = _candidates(predicates, asked)
    found = _first(
        candidates, asked, left, predicates.columns, predicates.column, predicates.rank, predicates.thresholds,
        predicates.sets,
    )  # fmt: skip
    return None if found < 0 else float(candidates[found])


def _candidates(predicates: Predicates, asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64: values on both sides of every test, whole ones first, NaN last."""
    near: list[NDArray[np.float64]] = []
    for predicate in asked.tolist():
        column = predicates.columns[predicates.column[predicate]]
        values = predicates.thresholds[column[FIRST] : column[FIRST] + column[COUNT]]
        if column[KIND] != CATEGORIES:
            near.append(values[predicates.rank[predicate]][None])
        else:
            words = predicates.sets[predicates.rank[predicate] :][: len(values) // 32 + 1]
            member = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")[: len(values)].astype(bool)
            near += [values[member][:MOST_CATEGORIES], values[~member][:MOST_CATEGORIES], values[-1:] + 1]
    values = np.concatenate(near)
    below = np.floor(values)
    all_values = np.concatenate([[0.0], below, below + 1, values, np.nextafter(values, np.inf)])
    return np.append(list(dict.fromkeys(all_values[np.isfinite(all_values)].tolist())), np.nan)


@njit(nogil=True, cache=True, error_model="numpy")
def _first(values, asked, left, columns, column, ranks, thresholds, sets):
    """The index of the first value with all these outcomes, or -1.

    Args:
        values: float64[V].
        asked: int64[Q], predicates.
        left: bool[Q].
        columns: Of the `Predicates`, as are the rest.
        column: int32[P].
        ranks: int32[P].
        thresholds: float64.
        sets: uint32.
    """
    for index in range(len(values)):
        fits = True
        for question in range(len(asked)):
            predicate = asked[question]
            own = columns[column[predicate]]
            place = rank(values[index], thresholds, own)
            if own[KIND] == CATEGORIES:
                goes_left = in_set(place, sets, ranks[predicate]) != 0
            else:
                goes_left = place <= np.uint64(ranks[predicate])
            if goes_left != left[question]:
                fits = False
                break
        if fits:
            return index
    return -1
