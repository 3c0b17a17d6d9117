"""Categories of pandas columns, which the last line of a booster's text maps to codes.

LightGBM's Python package trains on the codes of a pandas category column, and appends to the text
`pandas_categorical:` with a JSON list of each column's categories in the order of their codes
(`_data_from_pandas` and `_dump_pandas_categorical` of python-package/lightgbm/basic.py). Categories that it can write
are texts, whole numbers, floats and booleans, also mixed in one column. Of timestamps, dates, durations, periods,
intervals, decimals and bytes it can write no text at all; tuples it writes, but they are refused here. Ordered
categories stand in the line as well, although LightGBM treats their codes as numbers.

The line does not say which columns it is about: `pandas_features` finds them.
"""

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from typing import NoReturn

from kernels.forest.errors import ForestError

Category = str | int | float | bool

KEY = "\npandas_categorical:"

MAX_CATEGORIES = 2**20
"""Most categories of all columns together."""

MAX_CHARACTERS = 2**26
"""Longest line, before it is parsed: it may be of brackets alone."""

NO_CODES = -1
"""In place of a number of codes: the feature had values in training that are no codes, whole numbers from zero on."""


def read_pandas_categories(text: str) -> tuple[tuple[Category, ...], ...]:
    """Categories of each pandas column of categories, in the order of their codes; none where there is no such line.

    Args:
        text: The booster's whole text, its lines ended as on Unix.

    Raises:
        ForestError: The line is damaged or too long, names a category twice, or holds what is no category.
    """
    _, found, rest = text.rpartition(KEY)
    line, _, after = rest.partition("\n")
    if not found or line.strip() in ("null", "[]"):
        return ()
    if after.strip():
        raise ForestError("the booster's pandas_categorical is damaged: more text follows it")
    if len(line) > MAX_CHARACTERS:
        raise ForestError(f"the booster's pandas_categorical has more than {MAX_CHARACTERS} characters")
    try:
        columns = json.loads(line, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise ForestError(f"the booster's pandas_categorical is damaged: {error}") from error
    if not isinstance(columns, list) or not all(isinstance(column, list) for column in columns):
        raise ForestError("the booster's pandas_categorical is not a list of lists of categories")
    count = sum(map(len, columns))
    if count > MAX_CATEGORIES:
        raise ForestError(f"the booster has {count} pandas categories, and at most {MAX_CATEGORIES} are read")
    for index, column in enumerate(columns):
        _check(index, column)
    return tuple(map(tuple, columns))


def _constant(name: str) -> float:
    """Infinity, which Python's JSON has; NaN is not a category but a missing value."""
    if name == "NaN":
        raise ValueError("NaN is no category")
    return float(name.replace("Infinity", "inf"))


def _check(index: int, column: list[object]) -> None:
    """Raise ForestError unless pandas could hold such a column's categories, and UTF-8 and 64 bits their values."""

    def refuse(why: str) -> NoReturn:
        raise ForestError(f"the booster's pandas_categorical is damaged: column {index} of categories {why}")

    for value in column:
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                refuse("has a text that is not Unicode")
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**64:
                refuse("has a number beyond 64 bits")
        elif not isinstance(value, float) or math.isnan(value):
            refuse("has a category that is no text, number or boolean")
    if len(set(column)) < len(column):
        refuse("names a category twice")


def feature_codes(infos: Sequence[str]) -> tuple[int, ...]:
    """How many codes each feature needs by the values of its training data; `NO_CODES` if they were no codes.

    Args:
        infos: Words of the line `feature_infos`: `[least:greatest]` of a feature of numbers, `0:2:1` of one of
            categories, with -1 for missing ones, and `none` for one that LightGBM could not use
            (`BinMapper::bin_info_string` of include/LightGBM/bin.h).
    """
    return tuple(map(_codes, infos))


def _codes(info: str) -> int:
    if info == "none":
        return 0
    try:
        values = [float(value) for value in info.strip("[]").split(":")]
    except ValueError:
        return NO_CODES
    least = 0 if info.startswith("[") else -1
    # An ordered category is a number to LightGBM, whose text tells only the least and the greatest code of one.
    return int(max(values)) + 1 if all(value % 1 == 0 and value >= least for value in values) else NO_CODES


def pandas_features(
    categories: Sequence[Sequence[Category]],
    categorical: Sequence[int],
    codes: Sequence[int],
    allowed: Collection[int] | None = None,
) -> tuple[int, ...] | None:
    """The feature of each list of pandas categories, in the lists' order; None where the text does not tell.

    The lists are in the order of their columns. So once as many features are found as there are lists, the first list
    is the first feature's, and so on. The features are looked for first among those that the caller allows, then among
    those that LightGBM treats as categories, then among these and all features of numbers that may have been codes, for
    ordered categories are numbers. They are taken only if each had no value in training beyond the codes of its list.
    See `only_features` for what is left.

    An assumption remains: a call that gave a `categorical_feature` of its own, and left out as many pandas columns as
    it named columns of numbers, gives a text like any other. A signature helps where these columns' types differ.

    Args:
        categories: As `ModelText.pandas_categories`.
        categorical: As `ModelText.categorical`.
        codes: As `ModelText.codes`.
        allowed: Features that may be of pandas categories, as far as the caller knows from elsewhere, such as the
            columns of text in a signature; None if nothing is known.
    """
    categorical_too = {index for index, count in enumerate(codes) if count != NO_CODES} | set(categorical)
    for group in (allowed, set(categorical), categorical_too):
        if group is None:
            continue
        features = sorted(group if allowed is None else set(group) & set(allowed))
        if len(features) == len(categories) and all(
            0 <= codes[feature] <= len(values) for feature, values in zip(features, categories, strict=True)
        ):
            return tuple(features)
    return None


def only_features(possible: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
    """The feature of each list of pandas categories, where there is only one way to choose them in the lists' order.

    Args:
        possible: Features that each list may be of, ascending.
    """
    first: list[int] = []
    for features in possible:
        at = bisect_right(features, first[-1] if first else -1)
        if at == len(features):
            return None
        first.append(features[at])
    after = math.inf
    for features, feature in zip(reversed(possible), reversed(first), strict=True):
        # The last feature that leaves room for those of the lists behind: any other way lies between it and the first.
        if features[bisect_left(features, after) - 1] != feature:
            return None
        after = feature
    return tuple(first)
