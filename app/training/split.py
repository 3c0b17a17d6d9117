"""Which rows a model is fitted on, stops early on, and is tested on.

The split of rows is the one that papers on tabular learning report on (TabR, TabM): 64 % to fit, 16 % to stop early,
20 % to test once, all by scikit-learn's `train_test_split`.
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
"""Of the areas, held out whole to measure what the model knows of places that it has never seen."""

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
    """Splits whose test rows are a fifth of the areas, held out whole, `areas.holdouts` of them.

    The areas are k-means clusters of all rows; the rest is split into fit and validation rows at random.
    """
    labels = cluster_areas(areas, dataset.names, dataset.features, seed)
    names = np.unique(labels)
    for repetition in range(areas.holdouts):
        chosen = np.random.default_rng(repetition).permutation(names)[: max(1, round(UNSEEN_SHARE * len(names)))]
        unseen = np.isin(labels, chosen)
        fit, validation = train_test_split(np.flatnonzero(~unseen), test_size=0.2, random_state=repetition)
        yield Split(np.asarray(fit), np.asarray(validation), np.flatnonzero(unseen))


def cluster_areas(areas: Areas, names: tuple[str, ...], X: Array, seed: int) -> Labels:
    """int32[N]: the area of each row, by k-means over its coordinates; rows that lack one are an area together."""
    places = X[:, [names.index(name) for name in areas.inputs]]
    known = np.isfinite(places).all(axis=1)
    labels = np.full(len(X), areas.count, dtype=np.int32)
    labels[known] = KMeans(min(areas.count, int(known.sum())), random_state=seed).fit_predict(places[known])
    return labels
