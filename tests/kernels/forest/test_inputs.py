"""A row's scores are the same bits wherever it stands in a batch of any size, and however the batch lies in memory."""

import functools
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.forest.forest import Forest
from tests.kernels.forest.boosters import (
    CATEGORICAL,
    HARD_NUMBERS,
    MISSING,
    Split,
    assert_same_bits,
    divisions,
    hard_rows,
    model_text,
    oracle,
    tree_text,
)

SIZES = (*range(1, 21), *(31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000))
ROWS, FEATURES = 1100, 4


def forest_text(outputs: int, trees: int, leaves: int) -> str:
    """Numbers of each missing type in columns 0 to 2, categories in column 3."""
    random = np.random.default_rng(leaves)

    def split() -> Split:
        feature = int(random.integers(FEATURES))
        decision = int(random.integers(2)) * 2 | [*MISSING.values(), CATEGORICAL][feature]
        words = random.integers(0, 2**32, 9).tolist() if feature == 3 else []
        threshold = random.normal() if random.random() < 0.7 else random.choice(HARD_NUMBERS)
        return Split(feature, float(threshold), decision, words)

    def tree() -> str:
        divided = divisions("grown", leaves, random)
        return tree_text([split() for _ in divided], divided, random.normal(size=leaves).tolist())

    return model_text([tree() for _ in range(trees)], FEATURES, outputs, "" if outputs > 1 else "regression")


TEXTS = {
    "stumps": forest_text(1, 3, 2),
    "small trees": forest_text(1, 40, 31),
    "large trees": forest_text(1, 6, 300),
    "three outputs": forest_text(3, 30, 15),
}


@pytest.fixture(scope="module", params=TEXTS)
def text(request: pytest.FixtureRequest) -> str:
    return TEXTS[request.param]


@pytest.fixture(scope="module")
def forest(text: str) -> Forest:
    return Forest.from_model_text(text)


@pytest.fixture(scope="module")
def rows(text: str) -> NDArray[np.float64]:
    """float64[ROWS, F], not to be changed."""
    rows = hard_rows(text, ROWS)
    rows.flags.writeable = False
    return rows


@pytest.fixture(scope="module")
def scores(text: str, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return oracle(text, rows)


@pytest.mark.parametrize("size", SIZES)
def test_batches_of_each_size(
    forest: Forest, rows: NDArray[np.float64], scores: NDArray[np.float64], size: int
) -> None:
    for start in (0, 1, 37, ROWS - size):
        batch = slice(start, start + size)
        assert_same_bits(forest.predict(rows[batch], raw_score=True), scores[batch])


def test_each_row_alone(forest: Forest, rows: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
    for row in range(ROWS):
        assert_same_bits(forest.predict(rows[row : row + 1], raw_score=True), scores[row : row + 1])


@functools.cache
def shuffled(name: str) -> tuple[Forest, NDArray[np.float64], NDArray[np.float64]]:
    """A forest, rows in no order, and LightGBM's scores of them; the arrays are not to be changed."""
    rows = np.random.default_rng(6).permutation(hard_rows(TEXTS[name], ROWS))
    return Forest.from_model_text(TEXTS[name]), rows, oracle(TEXTS[name], rows)


@given(name=st.sampled_from([*TEXTS]), cuts=st.lists(st.integers(0, ROWS), max_size=12), turn=st.integers(0, ROWS))
def test_a_batch_turned_and_cut_in_any_way_gives_the_same_bits(name: str, cuts: list[int], turn: int) -> None:
    forest, rows, expected = shuffled(name)
    pieces = [forest.predict(piece, raw_score=True) for piece in np.split(np.roll(rows, turn, axis=0), sorted(cuts))]
    assert_same_bits(np.concatenate(pieces), np.roll(expected, turn, axis=0))


def test_one_row_many_times_gives_one_score(
    forest: Forest, rows: NDArray[np.float64], scores: NDArray[np.float64]
) -> None:
    for row in (0, 5, ROWS - 1):
        repeated = np.broadcast_to(rows[row], (259, FEATURES))
        assert_same_bits(forest.predict(repeated, raw_score=True), np.repeat(scores[row : row + 1], 259, axis=0))


def _strided(X: NDArray[np.floating]) -> NDArray[np.floating]:
    wide = np.full((3 * len(X), 2 * X.shape[1]), np.nan, X.dtype)
    wide[::3, 1::2] = X
    return wide[::3, 1::2]


def _reversed(X: NDArray[np.floating]) -> NDArray[np.floating]:
    return X[::-1, ::-1].copy()[::-1, ::-1]


def _read_only(X: NDArray[np.floating]) -> NDArray[np.floating]:
    copy = X.copy()
    copy.flags.writeable = False
    return copy


def _unaligned(X: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape)


LAYOUTS: dict[str, Callable[[NDArray[np.floating]], NDArray[np.floating]]] = {
    "row-major": np.ascontiguousarray,
    "column-major": np.asfortranarray,
    "columns of a wider array": lambda X: np.concatenate([X, X], axis=1)[:, : X.shape[1]],
    "transposed": lambda X: np.ascontiguousarray(X.T).T,
    "strided": _strided,
    "reversed": _reversed,
    "read-only": _read_only,
    "unaligned": _unaligned,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_may_lie_in_memory_in_any_way(
    forest: Forest, rows: NDArray[np.float64], scores: NDArray[np.float64], layout: str
) -> None:
    for count in (1, 2, 9, 65, 400):
        X = LAYOUTS[layout](rows[:count])
        np.testing.assert_array_equal(X, rows[:count])
        assert_same_bits(forest.predict(X, raw_score=True), scores[:count])
        np.testing.assert_array_equal(X, rows[:count])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_floats_are_widened_exactly(
    text: str, forest: Forest, rows: NDArray[np.float64], dtype: type[np.floating], layout: str
) -> None:
    with np.errstate(over="ignore"):
        narrow = rows.astype(dtype)
    # The neighbours in float32 of the bound of zero, which is itself a float32.
    narrow[:4, 0] = [1e-35, -1e-35, np.nextafter(dtype(1e-35), dtype(1)), np.nextafter(dtype(1e-35), dtype(0))]
    expected = oracle(text, narrow.astype(np.float64))
    for count in (1, 2, 9, 65, ROWS):
        X = LAYOUTS[layout](narrow[:count])
        assert X.dtype == dtype
        assert_same_bits(forest.predict(X, raw_score=True), expected[:count])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_whole_numbers_are_taken_for_what_they_are(text: str, forest: Forest, dtype: type[np.integer]) -> None:
    X = np.random.default_rng(1).integers(-9, 100, (80, FEATURES)).astype(dtype)
    expected = oracle(text, X.astype(np.float64))
    for count in (1, 9, 80):
        assert_same_bits(forest.predict(X[:count], raw_score=True), expected[:count])


def test_neither_the_input_nor_an_earlier_answer_is_changed(forest: Forest, rows: NDArray[np.float64]) -> None:
    for count in (1, 9, 300):
        X = rows[:count].copy()
        first = forest.predict(X, raw_score=True)
        kept = first.copy()
        assert X.tobytes() == rows[:count].tobytes()
        second = forest.predict(rows[count : 2 * count], raw_score=True)
        assert not np.shares_memory(first, second)
        assert_same_bits(first, kept)
        assert first.flags.c_contiguous
        assert first.flags.writeable


def test_threads_do_not_disturb_each_other(
    forest: Forest, rows: NDArray[np.float64], scores: NDArray[np.float64]
) -> None:
    right: list[bool] = []
    together = threading.Barrier(4)

    def work(size: int) -> None:
        together.wait()
        batches = [slice(start, start + size) for start in range(0, ROWS - size, 17)]
        right.append(all(np.array_equal(forest.predict(rows[batch], True), scores[batch]) for batch in batches))

    threads = [threading.Thread(target=work, args=(size,)) for size in (1, 8, 65, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4
