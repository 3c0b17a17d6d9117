"""Rows of a pandas frame as the engine takes them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.codecs import categories
from app.feature import Feature


def engine_rows(frame: pd.DataFrame, features: tuple[Feature, ...]) -> NDArray[np.float64]:
    """Numbers of the features' columns, which may be in any order, as float64[B, F].

    A category is its code; a missing value, and one that is no category, is NaN.

    Raises:
        KeyError: The frame lacks a column.
        ValueError: A number is text.
    """
    rows = np.empty((len(frame), len(features)), order="F")
    for index, feature in enumerate(features):
        column = frame[feature.name]
        if feature.categories is not None:
            values = column.astype(object).where(column.notna(), None)
            rows[:, index] = [categories.code(feature, value) for value in values]
        else:
            rows[:, index] = column.to_numpy(dtype=np.float64, na_value=np.nan)
            if feature.single:
                rows[:, index] = rows[:, index].astype(np.float32)
    return np.ascontiguousarray(rows)
