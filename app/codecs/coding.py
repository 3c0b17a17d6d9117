"""Numbers that the forest gets in place of decoded JSON values: codes of categories, and values rounded to float32."""

import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from app.codecs.categories import codes_of
from app.codecs.json.duplicates import ABSENT, Row
from app.codecs.rules import FloatArray, unseen_warning
from app.feature import Feature


class UnseenCategory(Exception):
    """A value is none of its feature's categories, and is to be refused."""


class Coding:
    """Turns the values of decoded rows into numbers.

    Args:
        features: The model's features.
        rounds: Whether values of float columns are rounded; those of tables are once their range is checked.

    Attributes:
        plain: Whether decoded values are the forest's numbers as they are.
        has_categories: Whether some feature is a category.
    """

    def __init__(self, features: tuple[Feature, ...], *, rounds: bool) -> None:
        self._features = features
        self._coded = [
            (column, codes_of(feature), feature.unseen == "refuse")
            for column, feature in enumerate(features)
            if feature.kind == "category"
        ]
        single = [rounds and feature.single for feature in features]
        self._round = struct.Struct("=" + "".join("f" if rounded else "d" for rounded in single))
        self._rounds = any(single)
        self.has_categories = bool(self._coded)
        self.plain = not (self.has_categories or self._rounds)

    def numbers(self, values: Row, unseen: list[tuple[int, Any]] | None = None) -> Row:
        """Numbers of a decoded row; None and a value that is none of the categories become NaN.

        Args:
            values: Values in the features' order, within their ranges.
            unseen: Gets the column and value of each that is none of the categories.

        Raises:
            UnseenCategory: A feature refuses such a value.
        """
        row = list(values)
        for column, codes, refuses in self._coded:
            if (code := codes.get(row[column])) is None:
                if (value := row[column]) is not None and value is not ABSENT:
                    if refuses:
                        raise UnseenCategory
                    if unseen is not None:
                        unseen.append((column, value))
                code = math.nan
            row[column] = code
        if not self._rounds:
            return tuple(row)
        if None in row:
            row = [math.nan if value is None else value for value in row]
        return self._round.unpack(self._round.pack(*row))

    def column(self, column: int, values: Iterable[Any], count: int) -> FloatArray:
        """Numbers of so many values of one feature, float64[count].

        Raises:
            UnseenCategory: The feature refuses a value.
        """
        feature = self._features[column]
        if feature.kind == "category":
            codes = codes_of(feature)
            if feature.unseen == "refuse" and not codes.keys() >= (set(values) - {None}):
                raise UnseenCategory
            values = (codes.get(value, math.nan) for value in values)
        return np.fromiter(values, np.float64, count)

    def warnings(self, unseen: Iterable[tuple[int, Any]]) -> tuple[str, ...]:
        """A warning for each column and value of a row that is none of the categories."""
        return tuple([unseen_warning(self._features[column], value) for column, value in unseen])
