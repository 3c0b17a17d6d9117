"""What is said of a row's nearest stored rows is what numpy and scikit-learn say of them."""

import math
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from kernels.cpu.backend import CpuBackend
from kernels.plan.nearest import describe
from kernels.plan.neighbours import LEAST_RIDGE, LEAST_SOFTENING, pack_neighbours
from kernels.plan.plan import Neighbours, Regression
from kernels.plan.regression import bisquare
from tests.kernels.plan.by_hand import describe_by_hand
from tests.kernels.plan.plans import alone, few

Columns = dict[str, NDArray[np.float64]]
RANDOM = np.random.default_rng(8)
ROWS = {name: RANDOM.normal(size=200) for name in ("a", "s", "t", "target")}


def near(**changes: Any) -> Neighbours:
    return Neighbours(output="n", inputs=("a",), scales=(1.0,), **changes)


def regression(output: str = "r", inputs: tuple[str, ...] = ("s", "t"), count: int = 30, **changes: Any) -> Regression:
    changes = {"scales": (1.0,) * len(inputs)} | changes
    return Regression(output=output, inputs=inputs, count=count, **changes)


def outputs(step: Neighbours, columns: Columns, row: dict[str, float]) -> dict[str, float]:
    """Of a row, by the CPU's backend: by the names of the step's outputs, without the step's own."""
    rows = np.array([[row[name] for name in step.operand_names()]])
    got = CpuBackend().transform(alone(step, columns), rows)[0]
    return dict(zip((name.removeprefix("n_") for name in step.outputs), got.tolist(), strict=True))


@st.composite
def described(draw: st.DrawFn) -> tuple[Neighbours, Columns, NDArray[np.float32], NDArray[np.int32]]:
    """A step, stored rows, and which of them are near: as many as looked for, or fewer."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    attributes = tuple("stuvwxyz"[: draw(st.integers(0, 8))])
    counts = st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True).map(sorted).map(tuple)
    contrasts = draw(few(attributes, 0, 8)) if attributes else ()
    regressions = tuple(
        Regression(
            output=f"r{place}",
            inputs=inputs,
            scales=tuple(random.uniform(0.1, 10, len(inputs))),
            count=draw(st.integers(1, 64)),
            ridge=draw(st.sampled_from([1e-3, 0.1, 10.0])),
        )
        for place, inputs in enumerate(draw(st.lists(few(attributes, 1, 8), max_size=3)) if attributes else ())
    )
    step = near(
        counts=draw(st.just(()) | counts),
        softening=draw(st.floats(1e-6, 10)),
        contrasts=contrasts,
        contrast_counts=draw(counts) if contrasts else (),
        regressions=regressions,
    )
    columns = {name: random.normal(draw(st.sampled_from([0, 50])), 1, 200) for name in ("a", "target", *attributes)}
    columns["target"] = columns["target"].round(1) + draw(st.sampled_from([0, 1000]))
    for name in attributes[1:3]:
        columns[name] = columns[attributes[0]] * 2  # collinear: what a ridge is for
    found = draw(st.integers(1, step.searched))
    keys = np.sort(draw(st.sampled_from([0.0, 1.0, 100.0])) * random.uniform(size=found).round(2)).astype(np.float32)
    return step, columns, keys, random.permutation(200)[:found].astype(np.int32)


def description(
    step: Neighbours, columns: Columns, keys: NDArray[np.float32], rows: NDArray[np.int32], here: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What is said at a row of these attributes."""
    places = {name: place for place, name in enumerate(step.operand_names())}
    arrays = pack_neighbours(step, columns, places, {})
    size = len(step.attributes)
    out = np.full(len(step.outputs), 12345.0)
    # Left as something else was computed in them.
    matrix, scratch = np.full(max(1, size * size), 9e9), np.full(max(64, 3 * size), -9e9)
    describe(
        keys, rows, len(keys), here - arrays.centres, arrays.attributes, arrays.target, arrays.counts,
        arrays.contrasts, arrays.contrast_counts, arrays.regressions, arrays.regressors, arrays.regressor_scales,
        arrays.numbers, matrix, scratch, out,
    )  # fmt: skip
    return out


@settings(max_examples=2 * settings.default.max_examples)
@given(described())
def test_descriptions_equal_numpy_and_scikit_learn(case: tuple[Any, ...]) -> None:
    step, columns, keys, rows = case
    here = np.random.default_rng(7).normal(size=len(step.attributes))
    expected = describe_by_hand(step, keys, rows, columns, dict(zip(step.attributes, here, strict=True)))
    np.testing.assert_allclose(description(step, columns, keys, rows, here), expected, rtol=1e-7, atol=1e-7)


def test_a_contrast_is_the_row_s_own_less_its_neighbours_mean() -> None:
    columns = {"a": np.arange(4.0), "s": np.array([10.0, 20.0, 60.0, 0.0]), "target": np.zeros(4)}
    got = outputs(near(contrasts=("s", "a"), contrast_counts=(1, 3)), columns, {"a": 0.0, "s": 5.0})
    assert got == {"nearest": 0, "contrast_s_1": -5, "contrast_a_1": 0, "contrast_s_3": -25, "contrast_a_3": -1}


def test_regressions_have_each_their_own_inputs_count_and_ridge() -> None:
    parts = (
        regression("p", ("s",), 12, ridge=0.01),
        regression("q", ("t", "a", "s"), 64, scales=(2.0, 0.5, 3.0)),
        regression("r", ("a",), 5, ridge=7.0),
    )
    row = {"a": 0.3, "s": -0.4, "t": 1.5}
    together = outputs(near(regressions=parts), ROWS, row)
    assert len(together) == 1 + 3 + 5 + 3
    for part in parts:
        got = outputs(near(regressions=(part,)), ROWS, row)
        assert got == pytest.approx({name: together[name] for name in got}, rel=1e-6)


def test_a_regression_is_scikit_learns_ridge_with_bisquare_weights() -> None:
    row, softening = {"a": 0.3, "s": -0.4, "t": 1.5}, 0.05
    part = regression(count=40, scales=(0.5, 4.0), ridge=0.2)
    got = outputs(near(regressions=(part,), softening=softening), ROWS, row)
    distances = np.sort(np.abs(ROWS["a"] - row["a"]))[:40]
    rows = np.argsort(np.abs(ROWS["a"] - row["a"]))[:40]
    weights = (1 - (distances / (distances[-1] + softening)) ** 2) ** 2
    assert weights[0] > 0.99
    assert 0 < weights[-1] < weights[-2]
    attributes = np.stack([ROWS["s"] / 0.5, ROWS["t"] / 4.0], axis=1)
    ridge = Ridge(alpha=0.2).fit(attributes[rows], ROWS["target"][rows], sample_weight=weights / weights.sum())
    assert [got["r_slope_s"], got["r_slope_t"]] == pytest.approx(ridge.coef_, rel=1e-5)
    assert got["r_local"] == pytest.approx(ridge.predict([[-0.4 / 0.5, 1.5 / 4.0]])[0], rel=1e-5)
    assert got["r_intercept"] == pytest.approx(ridge.predict(attributes.mean(axis=0, keepdims=True))[0], rel=1e-5)


def test_a_regression_follows_a_plane_in_any_units() -> None:
    columns = ROWS | {"target": 3 + 2 * ROWS["s"] - ROWS["t"]}
    row = {"a": 0.3, "s": -0.4, "t": 1.5}
    got = outputs(near(regressions=(regression(ridge=LEAST_RIDGE),)), columns, row)
    assert got["r_local"] == pytest.approx(3 - 0.8 - 1.5, abs=1e-4)
    assert got["r_intercept"] == pytest.approx(columns["target"].mean(), abs=1e-4)  # at the table's mean attributes
    assert [got["r_slope_s"], got["r_slope_t"]] == pytest.approx([2, -1], abs=1e-4)
    moved = columns | {"s": 1000 * columns["s"] + 5e4}
    same = outputs(
        near(regressions=(regression(ridge=LEAST_RIDGE, scales=(1000.0, 1.0)),)), moved, row | {"s": -400 + 5e4}
    )
    assert same == pytest.approx(got, rel=1e-5)


def test_a_great_ridge_leaves_the_weighted_mean() -> None:
    got = outputs(near(regressions=(regression(ridge=1e12),), softening=0.1), ROWS, {"a": 0.3, "s": 9.0, "t": 9.0})
    distances, rows = np.abs(ROWS["a"] - 0.3), np.argsort(np.abs(ROWS["a"] - 0.3))[:30]
    weights = (1 - (distances[rows] / (distances[rows].max() + 0.1)) ** 2) ** 2
    mean = np.average(ROWS["target"][rows], weights=weights)
    assert got["r_local"] == pytest.approx(mean, rel=1e-6)
    assert got["r_intercept"] == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("ridge", [LEAST_RIDGE, 1e-3])
@pytest.mark.parametrize("count", [1, 2, 5, 60])
def test_no_ridge_is_too_small_for_collinear_and_constant_attributes(ridge: float, count: int) -> None:
    columns = ROWS | {"t": 3e3 * ROWS["s"], "u": ROWS["s"] / 7 - 2e3, "v": np.full(200, 0.1)}
    names = ("s", "t", "u", "v")
    step = near(regressions=(regression("fitted", names, count, ridge=ridge),))
    rows = np.arange(count, dtype=np.int32)
    keys = np.zeros(count, np.float32)
    out = description(step, columns, keys, rows, np.zeros(4))
    assert np.isfinite(out).all()
    # Where one would do, all that they say is what it says: no slope is made of rounding errors.
    assert out[1] == pytest.approx(out[2] + sum(-columns[name].mean() * out[3 + at] for at, name in enumerate(names)))
    assert np.abs(out[3:]).max() < 10


def test_a_neighbour_at_no_distance_counts_most_but_not_alone() -> None:
    columns = {"a": np.array([0.0, 1.0]), "target": np.array([10.0, 20.0])}
    got = outputs(near(counts=(2,), softening=0.5), columns, {"a": 0.0})
    expected = [0, 15, (10 / 0.5 + 20 / 1.5) / (1 / 0.5 + 1 / 1.5), 5, 15, 1]
    np.testing.assert_allclose(list(got.values()), expected, rtol=1e-6)


@pytest.mark.parametrize("softening", [LEAST_SOFTENING, 0.001, 10.0])
@pytest.mark.parametrize("distance", [0.0, 1e-3, 1.0, 1e6, 1e12, 1e18])
def test_no_neighbour_s_weight_is_zero(distance: float, softening: float) -> None:
    last = np.float32(distance * distance)
    assert 0 < bisquare(last, last, softening) <= bisquare(np.float32(0.25) * last, last, softening) <= 1


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("far", [1e3, 1e6, 1e12, 1e17, 1e300])
def test_a_regression_from_far_away_weighs_neighbours_alike(far: float, count: int) -> None:
    columns = ROWS | {"a": np.zeros(200)}
    row = {"a": far, "s": 0.5, "t": -0.5}
    step = near(regressions=(regression(count=count),), softening=LEAST_SOFTENING)
    got = outputs(step, columns, row)
    assert got.pop("nearest") == pytest.approx(min(far, 1e18))
    del (here := outputs(step, columns, row | {"a": 0.0}))["nearest"]
    assert got == pytest.approx(here, rel=1e-6, abs=1e-6)


class TestNonFinite:
    step = Neighbours(
        output="n",
        inputs=("a", "b"),
        scales=(1.0, 1.0),
        counts=(3, 9),
        contrasts=("s",),
        contrast_counts=(4,),
        regressions=(regression(count=30), regression("q", ("t",), 20)),
    )
    columns = {name: np.random.default_rng(place).normal(size=100) for place, name in enumerate("abst")} | {
        "target": np.random.default_rng(9).normal(size=100)
    }
    row: ClassVar = {"a": 0.1, "b": 0.2, "s": 0.3, "t": 0.4}

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_a_coordinate_makes_all_of_it_nan(self, bad: float, name: str) -> None:
        assert np.isnan(list(outputs(self.step, self.columns, self.row | {name: bad}).values())).all()

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        ("name", "reached"), [("s", {"r_local", "contrast_s_4"}), ("t", {"r_local", "q_local"})], ids=["s", "t"]
    )
    def test_an_attribute_reaches_only_what_is_at_the_row(self, bad: float, name: str, reached: set[str]) -> None:
        whole = outputs(self.step, self.columns, self.row)
        got = outputs(self.step, self.columns, self.row | {name: bad})
        assert {key for key, value in got.items() if not math.isfinite(value)} == reached
        assert {key: value for key, value in got.items() if key not in reached} == {
            key: value for key, value in whole.items() if key not in reached
        }

    def test_all_stored_rows_left_out_leave_nothing_to_say(self) -> None:
        labels, excluded = np.full(100, 4, np.int32), np.array([4, 5, -1], np.int32)
        got = CpuBackend().transform(alone(self.step, self.columns), np.zeros((3, 4)), labels, excluded)
        assert np.isnan(got[0]).all()
        assert np.isfinite(got[1]).all()
        np.testing.assert_array_equal(got[1], got[2])


def test_one_stored_row_is_every_row_s_neighbour() -> None:
    columns = {"a": np.array([3.0]), "s": np.array([1.0]), "target": np.array([7.0])}
    step = near(counts=(1,), contrasts=("s",), contrast_counts=(1,), regressions=(regression(inputs=("s",), count=1),))
    got = outputs(step, columns, {"a": 1.0, "s": 5.0})
    np.testing.assert_array_equal(list(got.values()), [2, 7, 7, 0, 7, 2, 4, 7, 7, 0])
