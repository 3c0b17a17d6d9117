"""How far rows have shifted from a reference: PSI, Jensen-Shannon divergence and Kolmogorov-Smirnov, from counts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.drift.bins import Binned, Bins
from app.drift.limits import LEAST_SHARE

Array = NDArray[np.float64]


class Shifts(NamedTuple):
    """Shifts of K columns.

    Attributes:
        psi: float64[K], population stability index.
        by_chance: float64[K], the part of it that is expected without any shift.
        js: float64[K], Jensen-Shannon divergence in bits, from 0 to 1.
        ks: float64[K], Kolmogorov-Smirnov statistic of the present values; NaN for categories, which have no order,
            and where no value is present on one side.
    """

    psi: Array
    by_chance: Array
    js: Array
    ks: Array


def shifts(bins: Bins, now: Binned, reference_rows: int) -> Shifts:
    """Shifts of counted rows, at least one, from the reference.

    PSI and Jensen-Shannon compare the shares of all rows. Missing values are a cell of their own there, so that a
    feature that goes missing is found. A number that had one value only in the reference has a cell for rows outside.

    Args:
        bins: The bins.
        now: The rows.
        reference_rows: Rows of the reference.
    """
    expected, actual = _cells(bins, now)
    return Shifts(
        psi=psi(expected, actual),
        by_chance=psi_by_chance(expected, actual, reference_rows, now.rows),
        js=jensen_shannon(expected, actual),
        ks=_ks(bins, now),
    )


def psi(expected: Array, actual: Array) -> Array:
    """Population stability index: sum of (q - p) ln(q / p) over the cells. N. Siddiqi, Credit Risk Scorecards (2006).

    Args:
        expected: float64[K, C], shares p in the reference.
        actual: float64[K, C], shares q now.
    """
    p, q = np.maximum(expected, LEAST_SHARE), np.maximum(actual, LEAST_SHARE)
    return ((q - p) * np.log(q / p)).sum(axis=1)


def psi_by_chance(expected: Array, actual: Array, expected_rows: int, actual_rows: int) -> Array:
    """Mean of the PSI without a shift: (B - 1) (1 / n + 1 / m), for B cells and samples of n and m rows.

    B. Yurdakul, Statistical Properties of Population Stability Index (2018). It is 0.04 for 20 bins and 500 rows. It is
    told and not subtracted: the PSI then exceeds 0.1 without a shift once in some 4,000 windows of 500 rows, and hardly
    ever in larger ones. To subtract it would end that, and miss one in ten windows of 500 rows with a shift such as all
    incomes times 1.2.

    Args:
        expected: float64[K, C], shares in the reference.
        actual: float64[K, C], shares now.
        expected_rows: m.
        actual_rows: n.
    """
    cells = ((expected > LEAST_SHARE) | (actual > LEAST_SHARE)).sum(axis=1)
    return (cells - 1) * (1 / actual_rows + 1 / expected_rows)


def jensen_shannon(expected: Array, actual: Array) -> Array:
    """Jensen-Shannon divergence in bits: the mean of the Kullback-Leibler divergences of both from their mean.

    J. Lin, Divergence measures based on the Shannon entropy (1991). Its root is the distance of
    `scipy.spatial.distance.jensenshannon` with base 2.

    Args:
        expected: float64[K, C], shares in the reference.
        actual: float64[K, C], shares now.
    """
    middle = (expected + actual) / 2
    return np.maximum(0.0, (_divergence(expected, middle) + _divergence(actual, middle)) / 2)


def _divergence(p: Array, q: Array) -> Array:
    """Kullback-Leibler divergence of p from q in bits; a share of 0 in p adds 0."""
    return (p * np.log2(np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0))).sum(axis=1)


def _ks(bins: Bins, now: Binned) -> Array:
    """Largest difference of the distribution functions at the edges of the bins, the outer ones as well.

    N. Smirnov (1948). The difference between two edges may be larger, by at most the share of a bin.
    """
    present = now.rows - now.missing
    some = (present > 0) & (bins.shares.sum(axis=1) > 0) & (bins.missing < 1) & ~bins.is_category
    shares = now.cells / np.maximum(1, present)[:, None]
    inner = np.abs(np.cumsum(shares, axis=1) - np.cumsum(bins.shares, axis=1)).max(axis=1)
    outer = np.maximum(now.below, now.above) / np.maximum(1, present)
    return np.where(some, np.maximum(inner, outer), np.nan)


def _cells(bins: Bins, now: Binned) -> tuple[Array, Array]:
    """Shares of all rows in each cell, float64[K, C + 2]: bins, missing, and outside where there is but one bin."""
    outside = np.where(bins.constant, now.below + now.above, 0)
    cells = np.column_stack((now.cells, now.missing, outside)).astype(np.float64)
    cells[:, 0] -= outside
    present = 1 - bins.missing
    expected = np.column_stack((bins.shares * present[:, None], bins.missing, np.zeros(len(bins.columns))))
    return expected, cells / now.rows
