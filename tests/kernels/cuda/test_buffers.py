"""A stream's buffers: they are kept, grow, and let go of what they have grown out of. In numba's simulator."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from kernels.cuda import buffers as cuda_buffers
from kernels.cuda.buffers import MAX_VIEWS, StreamBuffers, rounded
from tests.kernels.cuda.simulator import IN_SIMULATOR, simulator

pytestmark = IN_SIMULATOR


@pytest.fixture
def buffers() -> Iterator[StreamBuffers]:
    with simulator():
        from numba import cuda

        yield StreamBuffers(cuda)


def test_arrays_have_the_shape_and_dtype_asked_for(buffers: StreamBuffers) -> None:
    for get in (buffers.device, buffers.pinned):
        array = get("a", (3, 5), np.uint16)
        assert tuple(array.shape) == (3, 5)
        assert array.dtype == np.uint16
        assert array.flags.c_contiguous


def test_batches_have_few_sizes_and_none_wastes_more_than_an_eighth() -> None:
    sizes = [rounded(rows) for rows in range(65_537)]
    assert sizes[:17] == list(range(17))
    assert all(rows <= size <= rows + rows / 8 for rows, size in enumerate(sizes))
    assert sizes == sorted(sizes)
    names = ("rows", "work", "places", "features", "descriptions", "ranks", "scores")
    assert len(names) * len(set(sizes)) <= MAX_VIEWS


def test_the_same_array_is_cut_once(buffers: StreamBuffers) -> None:
    first = buffers.device("a", (3, 5), np.float64)
    assert buffers.device("a", (5, 3), np.float64) is not first
    assert buffers.device("b", (3, 5), np.float64) is not first
    assert buffers.device("a", (3, 5), np.float64) is first


def test_arrays_of_a_name_share_their_memory_and_others_do_not(buffers: StreamBuffers) -> None:
    for get in (buffers.device, buffers.pinned):
        get("a", (2, 2), np.float64)[:] = 7.0
        get("b", (2, 2), np.float64)[:] = 8.0
        assert get("a", (1, 3), np.float64)[0, 2] == 7.0


def test_a_buffer_at_least_doubles(buffers: StreamBuffers) -> None:
    buffers.device("a", (1, 3000), np.float64)
    buffers.pinned("a", (1, 3000), np.float64)
    buffers.device("a", (1, 3001), np.float64)
    buffers.pinned("a", (1, 3001), np.float64)
    assert buffers._device["a"].size == buffers._pinned["a"].size == 6000


def test_a_buffer_that_was_too_small_is_let_go(buffers: StreamBuffers) -> None:
    buffers.device("a", (1, 4), np.float64)
    buffers.device("b", (1, 4), np.float64)
    buffers.pinned("a", (1, 4), np.float64)
    outgrown = weakref.ref(buffers._device["a"]._ary), weakref.ref(buffers._pinned["a"])
    kept = weakref.ref(buffers._device["b"]._ary)
    buffers.device("a", (1, 5000), np.float64)
    buffers.pinned("a", (1, 5000), np.float64)
    assert [reference() for reference in outgrown] == [None, None]
    assert kept() is not None


def test_releasing_lets_go_of_all(buffers: StreamBuffers) -> None:
    buffers.device("a", (1, 4), np.float64)
    buffers.pinned("a", (1, 4), np.float64)
    held = weakref.ref(buffers._device["a"]._ary), weakref.ref(buffers._pinned["a"])
    buffers.release()
    assert [reference() for reference in held] == [None, None]
    assert tuple(buffers.device("a", (2, 2), np.float64).shape) == (2, 2)


def test_arrays_of_ever_other_shapes_do_not_pile_up(buffers: StreamBuffers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_buffers, "MAX_VIEWS", 8)
    for count in range(1, 100):
        buffers.device("a", (1, count), np.float64)
    assert len(buffers._views) <= 8
