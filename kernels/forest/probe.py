"""Rows to test a forest with before it is served."""

import numpy as np
from numpy.typing import NDArray

from kernels.forest.predicates import CATEGORIES, COUNT, FEATURE, FIRST, KIND, NEAR_ZERO, Predicates

ROWS = 1024
VALUES = 2**24
"""Rows are fewer where there would be more values than this."""

ODD_VALUES = (
    *(np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1e300, -1e300, 5e-324),
    *(NEAR_ZERO, -NEAR_ZERO, float(np.nextafter(NEAR_ZERO, 1.0)), float(np.nextafter(-NEAR_ZERO, -1.0))),
    *(2.0**31 - 1, 2.0**31, -(2.0**31), 2.0**53, 2.0**63),
)
"""Where LightGBM's rules change: missing, about zero, and beyond the integers that a category can be."""

ODD_SHARE = 0.1


def probe_rows(predicates: Predicates, n_features: int) -> NDArray[np.float64]:
    """Rows on both sides of all kinds of decisions: float64[1024, F], or fewer rows of a very wide model.

    Each value is a threshold of its feature or a neighbour of one (the next float64 or float32 to either side; for
    a category, the next number), one in ten an odd one. The same for the same forest.

    Args:
        predicates: The forest's.
        n_features: F.
    """
    random = np.random.default_rng(0)
    count = min(ROWS, VALUES // n_features)
    rows = random.normal(size=(count, n_features))
    thresholds: dict[int, list[NDArray[np.float64]]] = {}
    for column in predicates.columns.tolist():
        values = predicates.thresholds[column[FIRST] : column[FIRST] + column[COUNT]]
        near = [values + step for step in (-1, -0.5, 0.5, 1)] if column[KIND] == CATEGORIES else _neighbours(values)
        thresholds.setdefault(column[FEATURE], []).extend([values, *near])
    for feature, values in thresholds.items():
        if len(all_values := np.concatenate(values)):
            rows[:, feature] = random.choice(all_values, count)
    odd = random.uniform(size=rows.shape) < ODD_SHARE
    rows[odd] = random.choice(ODD_VALUES, int(odd.sum()))
    return rows


def _neighbours(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
        return [
            moved.astype(np.float64)
            for end in (np.inf, -np.inf)
            for moved in (np.nextafter(values, end), np.nextafter(single, np.float32(end)))
        ]
