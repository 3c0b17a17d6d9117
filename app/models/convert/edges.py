"""Rows made to tell two models apart: at the thresholds, beside them, missing, and of every category."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.feature import Category
from app.models.convert.node_test import ZERO
from app.models.convert.tree_text import TreeText, read_nodes
from kernels.forest.trees import CATEGORICAL

ROWS = 2000
LARGEST = 1e300
"""Largest magnitude of a number; steps overflow and refuse beyond it."""
KEPT = 0.3
"""Share of the values that stay those of a row of the sample."""


def edge_rows(
    text: str,
    columns: tuple[int, ...],
    categories: dict[int, tuple[Category, ...]],
    sample: pd.DataFrame,
    *,
    missing: bool,
    n: int = ROWS,
) -> pd.DataFrame:
    """Rows of the sample with values in which the booster's tests differ.

    Args:
        text: Booster that takes raw columns.
        columns: Raw column of each of its features.
        categories: Categories of the raw columns that are categories.
        sample: Rows to change.
        missing: Whether values may be missing.
        n: Number of rows.
    """
    random = np.random.default_rng(0)
    rows = sample.iloc[random.integers(0, len(sample), n)].reset_index(drop=True)
    thresholds = _thresholds(text)
    changed: dict[Any, Any] = {}
    for feature, column in enumerate(columns):
        old = rows.iloc[:, column]
        if column in categories:
            values: list[Any] = [*categories[column], *([np.nan] if missing and old.dtype.kind not in "bi" else [])]
            if not values:
                continue
            new = pd.Series([values[index] for index in random.integers(0, len(values), n)], dtype=old.dtype)
        elif old.dtype.kind in "biuf":
            new = pd.Series(_numbers(thresholds.get(feature, np.zeros(1)), old.dtype, missing, n, random))
        else:
            continue
        changed[rows.columns[column]] = old.where(random.random(n) < KEPT, new)
    return rows.assign(**changed).astype(sample.dtypes.to_dict())


def _thresholds(text: str) -> dict[int, NDArray[np.float64]]:
    """Thresholds of each feature of the booster that has any, without those of categories."""
    found: dict[int, list[float]] = {}
    for tree in TreeText(text).trees:
        nodes = read_nodes(tree)
        for feature, threshold, decision in zip(nodes.feature, nodes.threshold, nodes.decision, strict=True):
            if not decision & CATEGORICAL and abs(threshold) <= LARGEST:
                found.setdefault(int(feature), []).append(float(threshold))
    return {feature: np.array(values) for feature, values in found.items()}


def _numbers(
    thresholds: NDArray[np.float64], dtype: Any, missing: bool, n: int, random: np.random.Generator
) -> NDArray[Any]:
    at = random.choice(thresholds, n)
    if dtype.kind == "b":
        return random.integers(0, 2, n).astype(bool)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(
            np.floor(at) + random.integers(0, 2, n), max(limits.min, -(2**53)), min(limits.max, 2**53)
        ).astype(dtype)
    side = random.choice([-np.inf, np.inf], n)
    # In the column's own type: the next float64 is the same float32.
    at = at.astype(dtype)
    values = np.where(random.random(n) < 0.4, np.nextafter(at, side.astype(dtype)), at)
    values = np.where(np.abs(values.astype(np.float64)) <= ZERO, 0.0, values)
    values = np.where(np.isfinite(values) & (np.abs(values.astype(np.float64)) <= LARGEST), values, 0.0)
    return np.where(missing & (random.random(n) < 0.1), np.nan, values).astype(dtype)
