"""The nearest stored rows are found exactly."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.cpu.backend import CpuBackend
from kernels.cpu.references import search
from kernels.plan.blocks import BLOCK_ROWS, block_order
from kernels.plan.nearest import NO_LABEL, insert
from kernels.plan.neighbours import FARTHEST, NeighbourArrays, pack_neighbours
from kernels.plan.plan import Neighbours, Regression
from tests.kernels.plan.by_hand import nearest_by_hand
from tests.kernels.plan.plans import alone

Columns = dict[str, NDArray[np.float64]]


class Case(NamedTuple):
    step: Neighbours
    columns: Columns
    labels: NDArray[np.int32]
    queries: NDArray[np.float64]


def packed(step: Neighbours, columns: Columns) -> NeighbourArrays:
    places = {name: place for place, name in enumerate(step.operand_names())}
    return pack_neighbours(step, columns, places, {name: place for place, name in enumerate(step.outputs)})


def found(arrays: NeighbourArrays, query: NDArray, labels: NDArray[np.int32], excluded: int = NO_LABEL) -> tuple:
    keys, rows = np.full(arrays.capacity[0], np.nan, dtype=np.float32), np.full(arrays.capacity[0], -1, dtype=np.int32)
    boxes, distances = np.empty(arrays.low.shape[1]), np.empty(BLOCK_ROWS)
    count = search(query / arrays.scales, arrays, labels, np.int32(excluded), boxes, distances, keys, rows)
    return keys[:count], rows[:count]


def assert_exact(case: Case, excluded: int = NO_LABEL) -> None:
    """`search` finds the rows that sorting finds, equally near ones in the table's order."""
    arrays = packed(case.step, case.columns)
    allowed = case.labels != excluded
    for query in case.queries:
        keys, rows = found(arrays, query, case.labels, excluded)
        values = dict(zip(case.step.inputs, query, strict=True))
        expected_keys, expected_rows = nearest_by_hand(case.step, case.columns, values, allowed)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(keys, expected_keys)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Coordinates on a grid, rows doubled, or neither; queries on stored rows, among them, and far away."""
    n_rows = draw(st.sampled_from([1, 2, 63, 64, 65, 128, 129, 1000]))
    names = tuple("abcdefgh"[: draw(st.integers(1, 8))])
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (n_rows, len(names))
    values = draw(
        st.sampled_from(
            [
                random.normal(size=shape),
                random.integers(0, draw(st.integers(1, 5)), shape) / 10,
                random.normal(size=shape)[random.integers(0, n_rows // 3 + 1, n_rows)],
                random.normal(size=shape) * 10.0 ** random.integers(-9, 9, shape),
            ]
        )
    )
    scales = draw(st.sampled_from([(1.0,) * len(names), tuple(random.uniform(0.01, 100, len(names)))]))
    queries = np.concatenate(
        [values[:2], random.normal(size=(2, len(names))), 1e6 * random.normal(size=(1, len(names)))]
    )
    step = Neighbours(output="n", inputs=names, scales=scales, counts=(draw(st.integers(1, min(n_rows, 64))),))
    columns = dict(zip(names, values.T, strict=True)) | {"target": random.normal(size=n_rows)}
    return Case(step, columns, random.integers(0, draw(st.integers(1, 4)), n_rows).astype(np.int32), queries)


@settings(max_examples=3 * settings.default.max_examples)
@given(cases(), st.integers(-1, 2))
def test_search_finds_what_sorting_finds(case: Case, excluded: int) -> None:
    assert_exact(case, excluded)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_where_all_rows_are_at_one_place_the_first_of_the_table_are_found(size: int) -> None:
    columns = {"a": np.full(size, 0.1), "b": np.full(size, -7.0), "target": np.zeros(size)}
    step = Neighbours(output="n", inputs=("a", "b"), scales=(1.0, 1.0), counts=(min(size, 20),))
    _, rows = found(packed(step, columns), np.array([0.3, 5.0]), np.zeros(size, np.int32))
    np.testing.assert_array_equal(rows, np.arange(min(size, 20)))


def test_distances_that_differ_by_less_than_a_float32_are_equal() -> None:
    far = np.array([1 + 1e-12, 1.0, -1 - 1e-13, 1 + 1e-3])
    step = Neighbours(output="n", inputs=("a",), scales=(1.0,), counts=(4,))
    _, rows = found(packed(step, {"a": far, "target": far}), np.zeros(1), np.zeros(4, np.int32))
    np.testing.assert_array_equal(rows, [0, 1, 2, 3])


def test_excluded_rows_make_room_for_farther_ones() -> None:
    line = np.arange(200.0)
    case = Case(
        Neighbours(output="n", inputs=("a",), scales=(1.0,), counts=(60,)),
        {"a": line, "target": line},
        (line >= 40).astype(np.int32),
        np.array([[100.0]]),
    )
    assert_exact(case, excluded=0)
    assert_exact(case, excluded=1)
    _, rows = found(packed(case.step, case.columns), case.queries[0], case.labels, excluded=1)
    np.testing.assert_array_equal(rows, np.arange(39, -1, -1))


@pytest.mark.parametrize("size", [1, 65, 1000])
@pytest.mark.parametrize("far", [1e17, 1e20, 1e154, 1e300, -1e300])
def test_no_row_is_found_twice_from_however_far(size: int, far: float) -> None:
    random = np.random.default_rng(size)
    step = Neighbours(output="n", inputs=("a", "b"), scales=(1.0, 1.0), counts=(min(size, 30),))
    columns = {name: random.normal(size=size) for name in ("a", "b", "target")}
    got = CpuBackend().transform(alone(step, columns), np.array([[far, 0.0]]))[0]
    nearest, mean, weighted, deviation, median, distance = got
    near = columns["target"][: min(size, 30)]  # all are equally far
    assert mean == np.float32(near.mean())
    assert weighted == pytest.approx(near.mean(), rel=1e-5)
    assert deviation == pytest.approx(near.std(), rel=1e-5)
    assert median == np.float32(np.median(near))
    assert nearest == distance > 1e16


@pytest.mark.parametrize("far", [FARTHEST, 1e20, 1e300, 1.7e308])
def test_rows_at_the_farthest_distance_are_found_in_the_tables_order(far: float) -> None:
    names = tuple("abcdefgh")
    step = Neighbours(output="n", inputs=names, scales=(1e-9,) * 8, counts=(64,))
    columns = dict.fromkeys(names, np.full(70, -far)) | {"target": np.arange(70.0)}
    got = CpuBackend().transform(alone(step, columns), np.full((1, 8), far))[0]
    assert got[0] == np.float32(2 * FARTHEST * math.sqrt(8))  # held within, and no square overflows
    assert got[1] == np.arange(64).mean()


def test_huge_coordinates_of_stored_rows_are_only_far() -> None:
    random = np.random.default_rng(3)
    columns = {name: random.normal(size=300) for name in ("a", "target")}
    columns["a"][::2] *= 1e300
    step = Neighbours(output="n", inputs=("a",), scales=(1e-5,), counts=(20,))
    got = CpuBackend().transform(alone(step, columns), np.zeros((1, 1)))[0]
    nearest = np.argsort(np.abs(columns["a"]))[:20]
    assert got[1] == np.float32(columns["target"][nearest].mean())


def test_blocks_hold_every_row_once_and_boxes_hold_their_blocks() -> None:
    random = np.random.default_rng(4)
    values = random.integers(0, 9, (1000, 3)).astype(float)
    columns = dict(zip("abc", values.T, strict=True)) | {"target": np.arange(1000.0)}
    arrays = packed(Neighbours(output="n", inputs=("a", "b", "c"), scales=(1.0, 2.0, 4.0)), columns)
    np.testing.assert_array_equal(np.sort(arrays.order), np.arange(1000))
    np.testing.assert_array_equal(arrays.coordinates, (values / [1, 2, 4])[arrays.order].T)
    assert arrays.low.shape == arrays.high.shape == (3, 16)
    for block in range(16):
        part = arrays.coordinates[:, block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS]
        np.testing.assert_array_equal(arrays.low[:, block], part.min(axis=1))
        np.testing.assert_array_equal(arrays.high[:, block], part.max(axis=1))
    # Neighbours share blocks: without an order, each box would be as large as the whole.
    assert (arrays.high - arrays.low)[0].mean() < 0.7 * np.ptp(values[:, 0])


@given(st.integers(1, 300), st.integers(1, 3), st.integers(1, 70), st.integers(0, 2**32))
def test_an_order_has_each_row_once(n_rows: int, n_dimensions: int, size: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 9, (n_rows, n_dimensions)).astype(float)
    np.testing.assert_array_equal(np.sort(block_order(values, size)), np.arange(n_rows))


def test_runs_of_an_order_from_the_first_row_on_are_close_together() -> None:
    # Ten places far from each other, ten rows at each, in no order: a block of ten rows is one place.
    places = np.random.default_rng(4).permutation(np.repeat(np.arange(10.0), 10))
    values = np.stack([1e3 * places, np.random.default_rng(5).uniform(size=100)], axis=1)
    np.testing.assert_array_equal(places[block_order(values, 10)].reshape(10, 10).T, np.tile(np.arange(10.0), (10, 1)))
    # Of 25 rows in blocks of ten the last block is the one that is not full.
    np.testing.assert_array_equal(block_order(np.arange(25.0)[::-1, None], 10), np.arange(24, -1, -1))


def test_parts_of_an_order_begin_at_whole_blocks() -> None:
    # Three places in one dimension, less far from each other than two of them reach in the second.
    first, second = np.repeat([0.0, 10.0, 20.0], 10), np.random.default_rng(6).permutation(np.linspace(0, 15, 30))
    shuffled = np.random.default_rng(7).permutation(30)
    values = np.stack([first, second], axis=1)[shuffled]
    blocks = values[block_order(values, 10)].reshape(3, 10, 2)
    np.testing.assert_array_equal(blocks[0, :, 0], np.zeros(10))
    assert blocks[1, :, 1].max() < blocks[2, :, 1].min()


def test_an_order_halves_along_the_widest_dimension() -> None:
    values = np.array([[0.0, 9.0], [1.0, 0.0], [0.0, 1.0], [1.0, 8.0]])
    order = block_order(values, 2)
    assert {*order[:2]} == {1, 2}
    assert {*block_order(values * [100.0, 1.0], 2)[:2]} == {0, 2}


def test_attributes_are_centred_by_the_table_s_means() -> None:
    columns = {name: np.random.default_rng(place).normal(7, 2, 50) for place, name in enumerate("abct")}
    step = Neighbours(
        output="n",
        inputs=("a",),
        scales=(1.0,),
        target="t",
        contrasts=("b",),
        contrast_counts=(1,),
        regressions=(
            Regression(output="r", inputs=("c", "b"), scales=(3.0, 4.0), count=9, ridge=0.5),
            Regression(output="s", inputs=("a",), scales=(5.0,), count=7),
        ),
        softening=0.25,
    )
    arrays = packed(step, columns)
    expected = np.stack([columns[name] - columns[name].mean() for name in "bca"], axis=1)
    np.testing.assert_allclose(arrays.attributes, expected, atol=1e-14)
    np.testing.assert_allclose(arrays.centres, [columns[name].mean() for name in "bca"])
    np.testing.assert_array_equal(arrays.points, [0, 1, 2, 0])  # of operands a, b, c
    np.testing.assert_array_equal(arrays.contrasts, [0])
    np.testing.assert_array_equal(arrays.regressions, [[9, 0, 2], [7, 2, 3]])
    np.testing.assert_array_equal(arrays.regressors, [1, 0, 2])
    np.testing.assert_array_equal(arrays.regressor_scales, [3, 4, 5])
    np.testing.assert_array_equal(arrays.numbers, [0.25, 0.5, 0.1])


def test_arrays_are_read_only_and_do_not_follow_the_table() -> None:
    table = np.asfortranarray(np.random.default_rng(5).normal(size=(70, 3)))
    columns = dict(zip(("a", "b", "target"), table.T, strict=True))
    regressions = (Regression(output="r", inputs=("b",), scales=(2.0,), count=9),)
    step = Neighbours(
        output="n", inputs=("a",), scales=(1.0,), contrasts=("b",), contrast_counts=(3,), regressions=regressions
    )
    arrays = packed(step, columns)
    before = [array.copy() for array in arrays]
    table[:] = 0.0
    for array, then in zip(arrays, before, strict=True):
        assert not array.flags.writeable
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, then)


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 10))
def test_insert_keeps_the_least_pairs_in_order(distances: list[int], capacity: int) -> None:
    keys, rows, filled = np.zeros(capacity, np.float32), np.zeros(capacity, np.int32), 0
    order = np.random.default_rng(len(distances)).permutation(len(distances))
    for row in order:
        filled = insert(keys, rows, filled, np.float32(distances[row]), np.int32(row))
    expected = sorted((distances[row], row) for row in order)[:capacity]
    assert list(zip(keys[:filled], rows[:filled], strict=True)) == expected
