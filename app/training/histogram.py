"""How the values of a column are distributed: what drift detection compares later values with."""

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How the values of a column are distributed, for comparison with later ones.

    Attributes:
        edges: Ascending values of the column, one more than there are bins; the first is the least value and the last
            the greatest. Bin i holds edges[i] <= value < edges[i + 1], and the last bin its upper edge too. Only the
            last two can be equal: then so many rows have the greatest value that it is a bin by itself. Empty where
            every value is missing.
        shares: Of the values that are not missing, in each bin. They sum to 1 and none is 0.
        missing: Share of all values that are missing.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    missing: float

    def shares_of(self, values: Array) -> Array:
        """Shares of other values in the same bins; those beyond an outer edge count in the outer bin.

        Args:
            values: float64[N]; what is not finite is left out.

        Returns:
            float64[bins], which sum to 1.

        Raises:
            ValueError: No value is left, or the histogram has no bins.
        """
        present = values[np.isfinite(values)]
        if not len(present) or not self.edges:
            raise ValueError(f"{len(present)} values cannot be shared among {len(self.shares)} bins")
        bins = np.searchsorted(self.edges[1:-1], present, side="right")
        return np.bincount(bins, minlength=len(self.shares)) / len(present)


def quantile_histogram(values: Array, bins: int = 20) -> Histogram:
    """Cut a column into bins of about equally many rows.

    Edges are values of the column itself (the quantiles of `numpy.quantile`'s method inverted_cdf), so that no bin is
    empty; equal ones are merged, which leaves fewer bins where values repeat.

    Args:
        values: float64[N], at least one; what is not finite counts as missing.
        bins: Greatest number of bins.

    Raises:
        ValueError: There are no values, or no bins.
    """
    if not len(values) or bins < 1:
        raise ValueError(f"a histogram needs values and bins, got {len(values)} and {bins}")
    present = values[np.isfinite(values)]
    missing = (len(values) - len(present)) / len(values)
    if not len(present):
        return Histogram(edges=(), shares=(), missing=missing)
    quantiles = np.quantile(present, np.arange(bins + 1) / bins, method="inverted_cdf")
    edges = np.unique(quantiles)
    if quantiles[-2] == edges[-1]:
        # Else the last bin would hold this value and all down to the edge before it: everything, for a flag that is
        # nearly always 1.
        edges = np.append(edges, edges[-1])
    histogram = Histogram(edges=tuple(edges.tolist()), shares=(0.0,) * (len(edges) - 1), missing=missing)
    return msgspec.structs.replace(histogram, shares=tuple(histogram.shares_of(present).tolist()))
