"""Quantile histograms: their bins, and the shares of other values in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.drift.histogram import Histogram, quantile_histogram

RNG = np.random.default_rng(5)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def test_distinct_values_fall_into_twenty_bins_between_numpys_quantiles() -> None:
    values = RNG.normal(size=2003)
    histogram = quantile_histogram(values)
    assert histogram.edges == tuple(np.quantile(values, np.arange(21) / 20, method="inverted_cdf"))
    np.testing.assert_allclose(histogram.shares, 0.05, atol=2 / len(values))
    np.testing.assert_array_equal(histogram.shares, np.histogram(values, histogram.edges)[0] / len(values))
    np.testing.assert_allclose(histogram.edges, np.quantile(values, np.arange(21) / 20), atol=0.02)


@given(
    values=arrays(np.float64, st.integers(1, 200), elements=st.one_of(FINITE, st.sampled_from([0.0, 1.0, np.nan]))),
    bins=st.integers(1, 25),
)
def test_a_histogram_is_of_its_values(values: np.ndarray, bins: int) -> None:
    histogram = quantile_histogram(values, bins)
    present = values[~np.isnan(values)]
    assert histogram.missing == pytest.approx(1 - len(present) / len(values))
    if not len(present):
        assert (histogram.edges, histogram.shares) == ((), ())
        return
    edges = np.array(histogram.edges)
    assert (edges[0], edges[-1]) == (present.min(), present.max())
    assert len(edges) == len(histogram.shares) + 1 <= bins + 2
    assert (np.diff(edges)[:-1] > 0).all()
    assert np.diff(edges)[-1] >= 0
    assert sum(histogram.shares) == pytest.approx(1)
    assert min(histogram.shares) > 0
    np.testing.assert_array_equal(histogram.shares, np.histogram(present, edges)[0] / len(present))


@pytest.mark.parametrize(
    ("values", "edges", "shares"),
    [
        ([5.0] * 7, (5, 5), (1,)),
        ([0, 0, 0, 1], (0, 1, 1), (0.75, 0.25)),
        ([0] + [1] * 99, (0, 1, 1), (0.01, 0.99)),
        ([1, 2, 2, 3, 3, 3], (1, 2, 3, 3), (1 / 6, 2 / 6, 3 / 6)),
        ([0] * 97 + [1, 2, 3], (0, 1, 3), (0.97, 0.03)),
    ],
)
def test_values_that_are_frequent_have_a_bin_each(
    values: list[float], edges: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    histogram = quantile_histogram(np.array(values, dtype=np.float64))
    assert histogram == Histogram(edges=edges, shares=shares, missing=0.0)


def test_what_is_not_finite_counts_as_missing() -> None:
    histogram = quantile_histogram(np.array([1.0, np.nan, 2.0, np.inf]))
    assert (histogram.edges, histogram.missing) == ((1.0, 2.0, 2.0), 0.5)


def test_other_values_are_counted_in_the_same_bins() -> None:
    histogram = quantile_histogram(np.array([0.0, 0.0, 1.0, 2.0]), bins=4)
    assert histogram.edges == (0.0, 1.0, 2.0)
    np.testing.assert_array_equal(histogram.shares_of(np.array([-9.0, 0.5, 1.0, 99.0, np.nan])), [0.5, 0.5])


def test_there_is_no_histogram_of_nothing() -> None:
    for values, bins in ((np.empty(0), 20), (np.ones(3), 0)):
        with pytest.raises(ValueError, match="needs values and bins"):
            quantile_histogram(values, bins)
    some, none = quantile_histogram(np.ones(3)), quantile_histogram(np.array([np.nan]))
    for histogram, values in ((some, np.array([np.nan])), (none, np.ones(1))):
        with pytest.raises(ValueError, match="cannot be divided"):
            histogram.shares_of(values)
