"""Splits rows into those to fit on, those to validate on, and those to test on.

The split is the one that papers on tabular learning use (TabR, TabM): 64 % to fit, 16 % for early stopping, 20 % to
test once, all by scikit-learn's `train_test_split`.
"""

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.model_selection import train_test_split

from app.training.dataset import Dataset
from app.training.recipe import Areas

UNSEEN_SHARE = 0.2
"""Share of the areas that is held out whole to measure the error in unseen areas."""

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Labels = NDArray[np.int32]


class Split(msgspec.Struct, frozen=True):
    """Row indices of the three parts."""

    fit: Rows
    validation: Rows
    test: Rows


def split_rows(count: int, seed: int = 0) -> Split:
    """Split row indices 0 to count-1 into fit, validation and test rows."""
    rest, test = train_test_split(np.arange(count), test_size=0.2, random_state=seed)
    fit, validation = train_test_split(rest, test_size=0.2, random_state=seed + 1)
    return Split(np.asarray(fit), np.asarray(validation), np.asarray(test))


def area_splits(dataset: Dataset, areas: Areas, seed: int) -> Iterator[Split]:
    """`areas.holdouts` splits whose test rows are a fifth of the areas, held out whole.

    The areas are k-means clusters of all rows. The other rows are split into fit and validation rows at random.
    """
    labels = cluster_areas(areas, dataset.names, dataset.features, seed)
    names = np.unique(labels)
    for repetition in range(areas.holdouts):
        chosen = np.random.default_rng(repetition).permutation(names)[: max(1, round(UNSEEN_SHARE * len(names)))]
        unseen = np.isin(labels, chosen)
        fit, validation = train_test_split(np.flatnonzero(~unseen), test_size=0.2, random_state=repetition)
        yield Split(np.asarray(fit), np.asarray(validation), np.flatnonzero(unseen))


def cluster_areas(areas: Areas, names: tuple[str, ...], X: Array, seed: int) -> Labels:
    """int32[N]: area of each row, by k-means over the coordinates. Rows that lack a coordinate form one more area."""
    places = X[:, [names.index(name) for name in areas.inputs]]
    known = np.isfinite(places).all(axis=1)
    labels = np.full(len(X), areas.count, dtype=np.int32)
    labels[known] = KMeans(min(areas.count, int(known.sum())), random_state=seed).fit_predict(places[known])
    return labels
