"""Codes of a feature's categories: the number that the forest gets in place of each value.

A value is looked up by equality, so 2, 2.0 and a category 2 are the same, and so are `true` and a category 1.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from app.feature import Category, Feature

compute: Any = pyarrow.compute
"""Typed as Any: its functions are generated at import, where no type checker sees them."""

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Codes(NamedTuple):
    """Codes of a column.

    Attributes:
        values: float64[b]; NaN where the value is missing or no category. An infinite number stays as it is.
        unseen: bool[b], whether the value is there but no category.
    """

    values: FloatArray
    unseen: BoolArray

    def taken(self, places: NDArray[np.intp], there: BoolArray) -> "Codes":
        """Codes of rows that hold a value's place in this column; `there` tells which hold one."""
        if not len(self.values):
            return missing(len(places))
        return Codes(np.where(there, self.values[places], np.nan), there & self.unseen[places])


@lru_cache(maxsize=4096)
def codes_of(feature: Feature) -> dict[Category, float]:
    """Code of each category, by value."""
    return {value: float(code) for code, value in enumerate(feature.categories or ())}


def code(feature: Feature, value: Category | None) -> float:
    """Code of a value; NaN for None and for a value that is no category."""
    return math.nan if value is None else codes_of(feature).get(value, math.nan)


def values_of(feature: Feature) -> dict[int, Category]:
    """Value of each category by its code, as JSON and MessagePack can hold it."""
    return {place: _plain(value) for place, value in enumerate(feature.categories or ())}


def missing(count: int) -> Codes:
    """Codes of a column without values."""
    return Codes(np.full(count, np.nan), np.zeros(count, np.bool_))


def codes(feature: Feature, column: Any) -> Codes:
    """Codes of an Arrow column of texts, numbers or booleans, dictionary-encoded or not."""
    kind = column.type
    if pa.types.is_null(kind) or not len(column):
        return missing(len(column))
    if pa.types.is_dictionary(kind):
        return codes(feature, column.dictionary).taken(*places_of(column))
    there = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string_view(kind):
        column = _texts_of_views(column, there)
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return _of_arrow_numbers(feature, column, there)
    texts = _texts(feature)
    index = compute.index_in(column, value_set=texts.values).fill_null(len(texts.codes) - 1)
    found = np.where(there, texts.codes[index.to_numpy()], np.nan)
    return Codes(found, there & np.isnan(found))


def places_of(column: Any) -> tuple[NDArray[np.intp], BoolArray]:
    """Place in its dictionary of each row of an Arrow dictionary column, intp[b]; and which rows hold one, bool[b].

    Raises:
        ValueError: A place is outside the dictionary.
    """
    indices = column.indices
    there = indices.is_valid().to_numpy(zero_copy_only=False)
    places = indices.fill_null(0).to_numpy()
    if len(column.dictionary) and len(places) and not 0 <= places.min() <= places.max() < len(column.dictionary):
        raise ValueError("a row is outside its dictionary")
    if not len(column.dictionary) and there.any():
        raise ValueError("a row refers to a dictionary without values")
    return places.astype(np.intp, copy=False), there


def codes_of_numbers(feature: Feature, values: NDArray[Any]) -> Codes:
    """Codes of numbers or booleans; NaN is missing.

    Args:
        feature: A category.
        values: The column [b], of any real dtype.
    """
    numbers = _numbers(feature)
    as_float = np.ascontiguousarray(values, np.float64)
    if not numbers.distinct:
        return _one_by_one(feature, values, as_float)
    there = ~np.isnan(as_float)
    if not len(numbers.values):
        return Codes(np.where(np.isinf(as_float), as_float, np.nan), there)
    places = np.searchsorted(numbers.values, as_float)
    places[places == len(numbers.values)] = 0
    seen = numbers.values[places] == as_float
    found = np.where(seen, numbers.codes[places], np.where(np.isinf(as_float), as_float, np.nan))
    return Codes(found, there & ~seen)


def recoded(values: FloatArray, have: Feature, want: Feature) -> FloatArray:
    """Values of a feature as another model takes them, whose feature of that name has other categories or another kind.

    Args:
        values: float64[b], codes if `have` is a category.
        have: The feature whose values they are.
        want: The other model's feature.

    Raises:
        ValueError: Some categories are texts, and the other feature takes numbers.
    """
    if have.categories == want.categories:
        return _rounded(values) if want.single and not have.single else values
    if have.kind != "category":
        return codes_of_numbers(want, values).values
    if want.kind != "category" and any(isinstance(value, str) for value in have.categories or ()):
        raise ValueError(f"{have.name!r} has texts as categories, and the other model takes numbers for it")
    known, places = ~np.isnan(values), np.nan_to_num(values, posinf=0, neginf=0).astype(np.intp)
    return np.where(known, _other_values(have, want)[places], np.nan)


def holds_text(feature: Feature) -> bool:
    """Whether some category is a text; of a feature without categories, every value is of its kind."""
    return not feature.categories or any(isinstance(value, str) for value in feature.categories)


def holds_numbers(feature: Feature) -> bool:
    """Whether some category is a number or a boolean, or there are no categories."""
    return not feature.categories or any(not isinstance(value, str) for value in feature.categories)


def is_exact(feature: Feature) -> bool:
    """Whether float64 tells the categories that are numbers from each other and from their neighbours."""
    return _numbers(feature).distinct


@lru_cache(maxsize=4096)
def longest_text(feature: Feature, least: int) -> int:
    """Bytes of the longest text that is read: of a category, with its length, or `least`; 0 where none is."""
    if feature.kind != "category" or not holds_text(feature):
        return 0
    sizes = (len(value.encode(errors="replace")) for value in feature.categories or () if isinstance(value, str))
    return 4 + max(least, *sizes, 0)


class _Texts(NamedTuple):
    """Categories that are texts.

    Attributes:
        values: Arrow's string[k].
        codes: float64[k + 1], the code of each, and NaN for none of them.
    """

    values: Any
    codes: FloatArray


class _Numbers(NamedTuple):
    """Categories that are numbers or booleans.

    Attributes:
        values: float64[k], ascending.
        codes: float64[k], the code of each.
        distinct: Whether float64 tells them and their neighbours apart.
    """

    values: FloatArray
    codes: FloatArray
    distinct: bool


@lru_cache(maxsize=4096)
def _texts(feature: Feature) -> _Texts:
    # A lone surrogate cannot be written in UTF-8, so no text equals a category with one.
    found = [(value, code) for value, code in codes_of(feature).items() if isinstance(value, str) and _is_utf8(value)]
    codes = np.array([*(code for _, code in found), np.nan])
    return _Texts(pa.array([value for value, _ in found], pa.string()), codes)


@lru_cache(maxsize=4096)
def _numbers(feature: Feature) -> _Numbers:
    found = [(value, code) for value, code in codes_of(feature).items() if not isinstance(value, str)]
    distinct = all(isinstance(value, float) or abs(value) < 2**53 for value, _ in found)
    if not distinct:
        return _Numbers(np.empty(0), np.empty(0), distinct=False)
    found.sort(key=lambda item: item[0])
    return _Numbers(np.array([float(value) for value, _ in found]), np.array([code for _, code in found]), distinct)


def _of_arrow_numbers(feature: Feature, column: Any, there: BoolArray) -> Codes:
    """Codes of an Arrow column of numbers or booleans."""
    if _numbers(feature).distinct or pa.types.is_boolean(column.type):
        values = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
        return codes_of_numbers(feature, values)
    values, unseen = codes_of_numbers(feature, column.fill_null(0).to_numpy())
    return Codes(np.where(there, values, np.nan), there & unseen)


def _one_by_one(feature: Feature, values: NDArray[Any], as_float: FloatArray) -> Codes:
    """Codes where some categories are whole numbers that float64 does not tell apart: each value as Python has it."""
    distinct, places = np.unique(values, return_inverse=True)
    found = np.array([code(feature, value) for value in distinct.tolist()], np.float64)[places.ravel()]
    return Codes(np.where(np.isinf(as_float), as_float, found), np.isnan(found) & ~np.isnan(as_float))


def _plain(value: Category) -> Category:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return value if isinstance(value, bool) or abs(value) < 2**63 else float(value)


def _texts_of_views(column: Any, there: BoolArray) -> Any:
    """A column of string_view as large_string, with an empty text in place of each missing one.

    Arrow does not validate the view of a missing text, of 16 bytes, and crashes on some.
    """
    _, views, *data = column.buffers()
    kept = np.frombuffer(views, np.uint8, 16 * (column.offset + len(column))).reshape(-1, 16)[column.offset :].copy()
    kept[~there] = 0
    buffers = [None, pa.py_buffer(kept.tobytes()), *data]
    return pa.Array.from_buffers(pa.string_view(), len(column), buffers).cast(pa.large_string())


@lru_cache(maxsize=256)
def _other_values(have: Feature, want: Feature) -> FloatArray:
    """What another model takes for each category: its code of it, or the number that it is; at least one number."""
    values = have.categories or ()
    if want.kind == "category":
        return np.array([code(want, value) for value in values] or [np.nan])
    numbers = np.array([float(value) for value in values] or [np.nan])
    return _rounded(numbers) if want.single else numbers


def _rounded(values: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
