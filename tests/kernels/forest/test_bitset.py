"""What is done to 512 rows at once is what NumPy does to each."""

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from kernels.forest.evaluators import bitset
from kernels.forest.evaluators.bitset import GROUP, ROWS


def lines(count: int, seed: int = 0) -> NDArray[np.uint64]:
    """uint64[count, 8], random, aligned to a cache line."""
    buffer = np.zeros(8 * (count + 1), dtype=np.uint64)
    start = -buffer.ctypes.data % 64 // 8
    found = buffer[start : start + 8 * count].reshape(count, 8)
    found[:] = np.random.default_rng(seed).integers(0, 2**64, found.shape, dtype=np.uint64)
    return found


def rows_of(line: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """bool[512]."""
    return np.unpackbits(line.view(np.uint8), bitorder="little").astype(bool)


@njit
def compare(ranks, value, groups, lines):
    bitset.up_to(ranks, value, groups, lines, 0)
    bitset.equal_to(ranks, value, groups, lines, 1)


@njit
def rearrange(lines, nodes, members):
    bitset.split(lines, nodes, 1)
    bitset.unite(lines, members, 0, len(members), 6)
    bitset.unite(lines, members, 2, 2, 7)
    bitset.add(lines, 8, 9)


@njit
def count_in_binary(lines, planes, groups, out):
    bitset.numbers(lines, 1, planes, groups, out)


@njit
def lowest(word):
    return bitset.lowest_bit(word)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize("groups", [1, 7, 16])
def test_bytes_are_compared_without_a_sign(value: int, groups: int) -> None:
    ranks = np.random.default_rng(1).choice(np.array([0, 1, 126, 127, 128, 129, 254, 255], dtype=np.uint8), ROWS)
    found, before = lines(2), lines(2)
    compare(ranks, value, groups, found)
    done = groups * GROUP
    np.testing.assert_array_equal(rows_of(found[0])[:done], (ranks <= value)[:done])
    np.testing.assert_array_equal(rows_of(found[1])[:done], (ranks == value)[:done])
    np.testing.assert_array_equal(rows_of(found[1])[done:], rows_of(before[1])[done:])


def test_rows_are_split_and_united() -> None:
    found, before = lines(10), lines(10)
    nodes = np.array([[0, 0, 0, 0], [0, 1, 2, 3]], dtype=np.int32)
    rearrange(found, nodes, np.array([3, 4, 5], dtype=np.int32))
    np.testing.assert_array_equal(found[2], before[1] & before[0])
    np.testing.assert_array_equal(found[3], before[1] & ~before[0])
    np.testing.assert_array_equal(found[6], found[3] | before[4] | before[5])
    assert not found[7].any()
    np.testing.assert_array_equal(found[8], before[8] | before[9])
    np.testing.assert_array_equal(found[[0, 1, 4, 5, 9]], before[[0, 1, 4, 5, 9]])


@pytest.mark.parametrize("planes", [0, 1, 5, 8])
@pytest.mark.parametrize("groups", [1, 16])
def test_planes_become_numbers(planes: int, groups: int) -> None:
    found, out = lines(33), np.full(ROWS, 7, dtype=np.uint32)
    count_in_binary(found, planes, groups, out)
    expected = np.zeros(ROWS, dtype=np.uint32)
    for byte in range(4):
        for bit in range(planes):
            expected |= rows_of(found[1 + 8 * byte + bit]).astype(np.uint32) << np.uint32(8 * byte + bit)
    expected[groups * GROUP :] = 7
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("place", [0, 1, 31, 32, 63])
def test_the_lowest_bit_is_found(place: int) -> None:
    assert lowest(np.uint64((2**64 - 1) >> place << place)) == place
