"""Histograms of a column's values, with which drift detection compares later values."""

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Distribution of a column's values.

    Attributes:
        edges: Ascending values of the column, one more than there are bins, from the least to the greatest value. Bin i
            holds edges[i] <= value < edges[i + 1]; the last bin includes its upper edge. Only the last two edges can be
            equal: then so many rows have the greatest value that it is a bin by itself. Empty if every value is
            missing.
        shares: Share of the present values in each bin. The shares sum to 1 and none is 0.
        missing: Share of all values that are missing.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    missing: float

    def shares_of(self, values: Array) -> Array:
        """Shares of other values in the same bins; values beyond an outer edge count in the outer bin.

        Args:
            values: float64[N]; values that are not finite are left out.

        Returns:
            float64[bins] with sum 1.

        Raises:
            ValueError: No value is finite, or the histogram has no bins.
        """
        present = values[np.isfinite(values)]
        if not len(present) or not self.edges:
            raise ValueError(f"{len(present)} values cannot be divided among {len(self.shares)} bins")
        bins = np.searchsorted(self.edges[1:-1], present, side="right")
        return np.bincount(bins, minlength=len(self.shares)) / len(present)


def quantile_histogram(values: Array, bins: int = 20) -> Histogram:
    """Histogram with bins of about equally many rows.

    Edges are values of the column itself (quantiles by `numpy.quantile`'s method inverted_cdf), so that no bin is
    empty. Equal edges are merged, which leaves fewer bins where values repeat. A value that is several quantiles has a
    bin by itself, as the zeros of a count that is mostly zero.

    Args:
        values: float64[N], at least one; values that are not finite count as missing.
        bins: Greatest number of bins.

    Raises:
        ValueError: There are no values or no bins.
    """
    if not len(values) or bins < 1:
        raise ValueError(f"a histogram needs values and bins, got {len(values)} and {bins}")
    present = values[np.isfinite(values)]
    missing = (len(values) - len(present)) / len(values)
    if not len(present):
        return Histogram(edges=(), shares=(), missing=missing)
    quantiles = np.quantile(present, np.arange(bins + 1) / bins, method="inverted_cdf")
    edges, repeats = np.unique(quantiles, return_counts=True)
    frequent = edges[:-1][repeats[:-1] > 1]
    if len(frequent):
        ascending = np.sort(present)
        edges = np.union1d(edges, ascending[np.searchsorted(ascending, frequent, side="right")])
    if quantiles[-2] == edges[-1]:
        # Otherwise the last bin would reach down from this value to the edge before it, and hold every row of a flag
        # that is nearly always 1.
        edges = np.append(edges, edges[-1])
    histogram = Histogram(edges=tuple(edges.tolist()), shares=(0.0,) * (len(edges) - 1), missing=missing)
    return msgspec.structs.replace(histogram, shares=tuple(histogram.shares_of(present).tolist()))
