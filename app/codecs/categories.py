"""Codes of a feature's categories: the number that the forest gets in place of each value.

A value is looked up by equality, so 2, 2.0 and a category 2 are the same, and so are `true` and a category 1.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from app.feature import Category, Feature

compute: Any = pyarrow.compute
"""Typed as Any: its functions are generated at import, where no type checker sees them."""


@lru_cache(maxsize=4096)
def codes_of(feature: Feature) -> dict[Category, float]:
    """Code of each category, by value."""
    return {value: float(code) for code, value in enumerate(feature.categories or ())}


def code(feature: Feature, value: Category | None) -> float:
    """Code of a value; NaN for None and for a value that is no category."""
    return math.nan if value is None else codes_of(feature).get(value, math.nan)


def codes(feature: Feature, column: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Codes of an Arrow column of texts, numbers or booleans, dictionary-encoded or not.

    Returns:
        Codes, float64[b], NaN where the value is missing or no category; and whether each value is there but no
        category, bool[b].
    """
    if pa.types.is_dictionary(column.type):
        # The dictionary may hold values that no row has, so only the rows tell which are unseen.
        of_dictionary, unseen = codes(feature, column.dictionary)
        indices = column.indices
        there = indices.is_valid().to_numpy(zero_copy_only=False)
        places = indices.fill_null(0).to_numpy().astype(np.intp)
        if not len(of_dictionary):
            return np.full(len(column), np.nan), np.zeros(len(column), np.bool_)
        return np.where(there, of_dictionary[places], np.nan), there & unseen[places]
    there = column.is_valid().to_numpy(zero_copy_only=False)
    wanted = pa.array(list(codes_of(feature)), _arrow_type(feature)) if _is_uniform(feature) else None
    if wanted is None or not _comparable(column.type, wanted.type):
        found = np.array([code(feature, value) for value in column.to_pylist()], np.float64)
    else:
        index = compute.index_in(column.cast(wanted.type, safe=False), value_set=wanted)
        found = index.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
        found = np.where(there, found, np.nan)
    return found, there & np.isnan(found)


def holds_text(feature: Feature) -> bool:
    """Whether some category is a text; of a feature without categories, every value is of its kind."""
    return not feature.categories or any(isinstance(value, str) for value in feature.categories)


def holds_numbers(feature: Feature) -> bool:
    """Whether some category is a number or a boolean, or there are no categories."""
    return not feature.categories or any(not isinstance(value, str) for value in feature.categories)


def _is_uniform(feature: Feature) -> bool:
    """Whether the categories are all text, or all numbers or booleans that float64 tells apart."""
    if not holds_numbers(feature):
        return True
    return not holds_text(feature) and len({float(value) for value in codes_of(feature)}) == len(codes_of(feature))


def _arrow_type(feature: Feature) -> Any:
    return pa.string() if holds_text(feature) else pa.float64()


def _comparable(kind: Any, wanted: Any) -> bool:
    if wanted == pa.string():
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
