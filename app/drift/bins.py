"""The bins of several columns as arrays, and counts of rows in them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.codecs.categories import codes_of
from app.drift.histogram import Histogram
from app.drift.profile import Categories, Profile
from app.feature import Feature
from kernels.cpu.bins import add_many_rows, add_rows
from kernels.rows import as_rows

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


class Column(NamedTuple):
    """A column that is watched.

    Attributes:
        name: Name of the feature, or index of the output.
        place: Index of the column in the rows.
        spread: Its values in the reference.
        codes: Code of each category of `spread`; empty for a number.
    """

    name: str
    place: int
    spread: Histogram | Categories
    codes: tuple[float, ...] = ()

    @property
    def bins(self) -> tuple[str, ...]:
        """Names of the bins, as the label of their series."""
        if isinstance(self.spread, Categories):
            return (*map(str, range(len(self.codes))), "other")
        return tuple(map(str, range(max(1, len(self.spread.shares)))))


class Binned(NamedTuple):
    """Rows by bin. Counts of several batches are added, and those of a window are the difference of two.

    Attributes:
        rows: Number of rows.
        cells: int64[K, C], rows in each bin of each of K columns, 0 beyond a column's last bin.
        missing: int64[K], rows whose value is missing or not finite.
        below: int64[K], rows below the least value of the reference; they are in the first bin too.
        above: int64[K], rows above the greatest value of the reference; they are in the last bin too.
    """

    rows: int
    cells: Counts
    missing: Counts
    below: Counts
    above: Counts

    def minus(self, earlier: "Binned") -> "Binned":
        """What was counted since an earlier time."""
        return Binned(*(now - then for now, then in zip(self, earlier, strict=True)))  # pyright: ignore[reportArgumentType]


class Bins:
    """Bins of K columns, and their shares in the reference.

    Args:
        columns: The columns.

    Attributes:
        columns: The columns.
        width: C, the largest number of bins of a column.
        shares: float64[K, C], share of the present values in each bin in the reference.
        missing: float64[K], share of missing values in the reference.
        is_category: bool[K], whether a column is one of categories.
        is_bin: bool[K, C], whether a column has a bin at this place.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        thresholds = [_thresholds(column) for column in columns]
        sizes = [len(column.bins) for column in columns]
        self.width = max(sizes, default=1)
        self._places = np.array([column.place for column in columns], dtype=np.int64)
        self._sizes = np.array([len(found) for found in thresholds], dtype=np.int64)
        self._thresholds = np.full((len(columns), self.width + 1), np.nan)
        self.shares = np.zeros((len(columns), self.width))
        for row, (column, found) in enumerate(zip(columns, thresholds, strict=True)):
            self._thresholds[row, : len(found)] = found
            self.shares[row, : sizes[row]] = _shares(column)
        self.missing = np.array([column.spread.missing for column in columns])
        self.is_category = np.array([isinstance(column.spread, Categories) for column in columns], dtype=np.bool_)
        self._last = np.array(sizes, dtype=np.intp) - 1
        self.is_bin = np.arange(self.width) <= self._last[:, None]

    @property
    def constant(self) -> NDArray[np.bool_]:
        """bool[K], whether a column of numbers has a single bin."""
        return (self._last == 0) & ~self.is_category

    def zeros(self) -> NDArray[np.int64]:
        """Counts of no rows: int64[K, 1 + T], the present values, and those found at each threshold."""
        return np.zeros((len(self.columns), 1 + self._thresholds.shape[1]), dtype=np.int64)

    def count(self, rows: Array, *, in_thread: bool = False) -> Counts:
        """Counts of a batch, in the form of `zeros`.

        Args:
            rows: float64[B, F].
            in_thread: Whether to release the GIL meanwhile.
        """
        present = np.zeros(len(self.columns), dtype=np.int64)
        hits = np.zeros(self._thresholds.shape, dtype=np.int64)
        add = add_many_rows if in_thread else add_rows
        rows = as_rows(rows, rows.shape[1])
        add(rows, self._places, self._sizes, self._thresholds, self.is_category, present, hits)
        return np.column_stack((present, hits))

    def binned(self, counts: Counts, rows: int) -> Binned:
        """Rows by bin, from the counts of so many rows."""
        present, hits = counts[:, 0], counts[:, 1:]
        number = ~self.is_category
        # Of numbers, all that are at or above the lower edge of a bin, less those of the next one.
        upwards = np.zeros((len(counts), self.width + 1), dtype=np.int64)
        upwards[:, 0] = present
        upwards[:, 1:-1] = hits[:, 1:-1]
        each = np.arange(len(counts))
        upwards[each, self._last + 1] = 0
        cells = upwards[:, :-1] - upwards[:, 1:]
        cells[self.is_category] = hits[self.is_category, : self.width]
        others = present - cells.sum(axis=1)
        cells[each, self._last] += np.where(self.is_category, others, 0)
        has_edges = number & (self._sizes > 0)
        below = np.where(has_edges, present - hits[:, 0], 0)
        above = np.where(has_edges, hits[each, self._last + 1], 0)
        return Binned(rows, cells, rows - present, below, above)


def warm_up() -> None:
    """Have the kernels compiled, or loaded, before a request needs them."""
    bins = Bins([Column("", 0, Histogram(edges=(), shares=(), missing=1.0))])
    for in_thread in (False, True):
        bins.count(np.zeros((1, 1)), in_thread=in_thread)


def bins_of_features(profile: Profile, features: Sequence[Feature]) -> Bins:
    """Bins of the features that a profile has, in the model's order."""
    columns: list[Column] = []
    spreads: Mapping[str, Histogram | Categories] = {**profile.numbers, **profile.categories}
    for place, feature in enumerate(features):
        spread = spreads.get(feature.name)
        if isinstance(spread, Categories):
            codes = codes_of(feature)
            columns.append(Column(feature.name, place, spread, tuple(codes[value] for value in spread.values)))
        elif spread is not None:
            columns.append(Column(feature.name, place, spread))
    return Bins(columns)


def bins_of_prediction(profile: Profile) -> Bins:
    """Bins of the outputs that a profile has."""
    return Bins([Column(str(place), place, spread) for place, spread in enumerate(profile.prediction)])


def _thresholds(column: Column) -> Sequence[float]:
    """What the values of a column are compared with.

    For numbers: the lower edge of each bin, and the least number beyond the last edge.
    """
    if isinstance(column.spread, Categories):
        return column.codes
    edges = column.spread.edges
    return (*edges[:-1], float(np.nextafter(edges[-1], np.inf))) if edges else ()


def _shares(column: Column) -> Sequence[float]:
    if isinstance(column.spread, Categories):
        return (*column.spread.shares, column.spread.other)
    return column.spread.shares or (1.0,)
