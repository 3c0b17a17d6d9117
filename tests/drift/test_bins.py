"""Rows by bin: the bins of the reference's histogram, missing values, and values outside its range."""

import math

import msgspec
import numpy as np
import pytest

from app.drift.bins import Binned, Bins, bins_of_features, bins_of_prediction
from app.drift.histogram import quantile_histogram
from app.drift.profile import make_profile
from app.feature import Feature
from tests.drift.rows import FEATURES, Array, predictions_of, profile_of, rows_of

PROFILE = profile_of(rows_of(2000))
BINS = bins_of_features(PROFILE, FEATURES)


def binned(rows: Array, bins: Bins = BINS) -> Binned:
    return bins.binned(bins.count(rows), len(rows))


def test_numbers_are_in_the_bins_of_the_histogram() -> None:
    rows = rows_of(700, seed=1)
    rows[::7, 0] = math.nan
    rows[::11, 0] = math.inf
    got = binned(rows)
    np.testing.assert_allclose(
        got.cells[0] / got.cells[0].sum(), PROFILE.numbers["size"].shares_of(rows[:, 0]), rtol=1e-12
    )
    finite = np.isfinite(rows[:, 0])
    assert (got.rows, got.missing[0], got.cells[0].sum()) == (700, (~finite).sum(), finite.sum())


def test_the_reference_itself_has_its_shares() -> None:
    rows = rows_of(2000)
    got = binned(rows)
    np.testing.assert_allclose(got.cells / 2000, BINS.shares, atol=1e-12)
    assert not got.below.any()
    assert not got.above.any()
    prediction = bins_of_prediction(PROFILE)
    outputs = predictions_of(rows).reshape(-1, 1)
    np.testing.assert_allclose(prediction.binned(prediction.count(outputs), 2000).cells / 2000, prediction.shares)


def test_values_at_and_beyond_the_outer_edges() -> None:
    low, high = PROFILE.numbers["size"].edges[0], PROFILE.numbers["size"].edges[-1]
    rows = np.full((5, 3), 4.0)
    rows[:, 0] = [low, np.nextafter(low, -1), high, np.nextafter(high, np.inf), 1e9]
    got = binned(rows)
    assert (got.below[0], got.above[0]) == (1, 2)
    assert (got.cells[0, 0], got.cells[0, 19], got.cells[0].sum()) == (2, 3, 5)


def test_categories_are_counted_by_code_and_others_together() -> None:
    few = msgspec.structs.replace(
        PROFILE,
        categories={
            "colour": msgspec.structs.replace(
                PROFILE.categories["colour"], values=("green", "red"), shares=(0.3, 0.6), other=0.1
            )
        },
    )
    rows = np.full((6, 3), 4.0)
    rows[:, 1] = [0, 0, 1, 2, math.nan, 2]
    bins = bins_of_features(few, FEATURES)
    got = binned(rows, bins)
    assert bins.columns[1].bins == ("0", "1", "other")
    assert got.cells[1, :3].tolist() == [1, 2, 2]
    assert (got.missing[1], got.below[1], got.above[1]) == (1, 0, 0)


def test_a_constant_has_one_bin_and_knows_what_is_outside() -> None:
    rows = np.full((4, 3), 4.0)
    rows[:, 2] = [4.0, 3.0, 5.0, math.nan]
    got = binned(rows)
    assert BINS.columns[2].bins == ("0",)
    assert (got.cells[2, 0], got.below[2], got.above[2], got.missing[2]) == (3, 1, 1, 1)


def test_a_feature_without_values_in_the_reference_has_one_bin() -> None:
    feature = Feature(name="empty", nullable=True)
    profile = make_profile((feature,), np.full((9, 1), math.nan), np.zeros(9), "training")
    bins = bins_of_features(profile, (feature,))
    got = binned(np.array([[1.0], [math.nan]]), bins)
    assert (got.cells.tolist(), got.missing.tolist(), got.below.tolist(), got.above.tolist()) == ([[1]], [1], [0], [0])
    assert bins.missing.tolist() == [1.0]


@pytest.mark.parametrize("values", [[0, 1, 1, 1], [1, 2, 3], [5], [0, 0, 0, 0, 9]])
def test_any_histogram_has_its_own_bins_back(values: list[float]) -> None:
    column = np.repeat(np.array(values, dtype=float), 30)
    feature = Feature(name="x")
    bins = bins_of_features(make_profile((feature,), column[:, None], column, "training"), (feature,))
    got = binned(column[:, None], bins)
    np.testing.assert_allclose(got.cells[0] / len(column), quantile_histogram(column).shares)


def test_a_thread_counts_the_same() -> None:
    rows = rows_of(1000, seed=3)
    np.testing.assert_array_equal(BINS.count(rows, in_thread=True), BINS.count(rows))
    np.testing.assert_array_equal(BINS.count(np.asfortranarray(rows)), BINS.count(rows))
