"""Names that appear more than once in a JSON object.

JSON lets every reader do with them as it likes (RFC 8259, section 4), and msgspec and Python let the last one win: two
readers of one body could see two rows. Here such a body is refused. A decoder that is typed does not tell how many
names it saw, so they are counted by their colons, which takes a fraction of what decoding takes; only where the count
does not come out is the body read again by a parser that sees every name.
"""

import json
from collections.abc import Iterable
from typing import Any

from app.errors import MalformedBody
from app.feature import Feature

ABSENT = float("nan")
"""Default of a field that is not required: this very object in a decoded row means that the row has no such name."""

Row = tuple[Any, ...]


class RepeatedName(Exception):
    """An object has a name more than once."""


class Repeating(dict[str, Any]):
    """An object that has names more than once, with the last value of each.

    Attributes:
        names: All names in their order, repeated ones too.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, _ in pairs]


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What `json.loads` is to make of an object: `Repeating` where a name appears more than once."""
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeating(pairs)


def repeated_names(value: object) -> set[str]:
    """Names that a parsed object has more than once."""
    if not isinstance(value, Repeating):
        return set()
    seen: set[str] = set()
    return {name for name in value.names if name in seen or seen.add(name)}


def has_repeated(text: bytes | bytearray) -> bool:
    """Whether any object in valid JSON has a name more than once."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) != len(pairs)

    json.loads(text.decode(), object_pairs_hook=look)
    return found


class NameCount:
    """Counts the names in decoded rows of one model.

    Args:
        features: What the model takes. In decoded rows, those that are not required and were left out are ABSENT.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self._colons = [1 + feature.name.count(":") for feature in features]
        self._of_whole_row = sum(self._colons)
        self._inside = self._of_whole_row > len(features)
        self._optional = not all(feature.required for feature in features)

    def may_repeat_in_one(self, text: bytes | bytearray, row: Row) -> bool:
        """What `may_repeat` says of a text that is one row, in less time."""
        colons = self._colons_of(row) if self._optional else self._of_whole_row
        return text.count(b":") != colons or (self._inside and b"\\" in text)

    def may_repeat(
        self, text: bytes | bytearray, count: int, rows: Iterable[Row], names: int = 0, colons: int = 0
    ) -> bool:
        """Whether a text could have a name more than once in an object.

        Every name has a colon behind it, and all other colons are inside names and texts. Where there are as many as
        what was decoded accounts for, no name and no text was lost; but an escaped colon could hide another one.

        Args:
            text: Valid JSON, or lines of it.
            count: How many rows were decoded.
            rows: Their values.
            names: That stand around the rows.
            colons: In names and texts around the rows.
        """
        of_rows = count * self._of_whole_row
        if self._inside and self._optional:
            of_rows = sum(map(self._colons_of, rows))
        elif self._optional:
            of_rows -= sum([row.count(ABSENT) for row in rows])
        inside = colons > 0 or self._inside
        return text.count(b":") != of_rows + names + colons or (inside and b"\\" in text)

    def _colons_of(self, row: Row) -> int:
        """Colons of the names that a row has, those behind them among them."""
        if not self._inside:
            return len(row) - row.count(ABSENT)
        return sum(colons for colons, value in zip(self._colons, row, strict=True) if value is not ABSENT)


def parse(text: bytes | bytearray, what: str = "The body") -> Any:
    """Parse JSON leniently: NaN, Infinity and repeated names are let through, to be named as a field's fault.

    Raises:
        MalformedBody: The text, which the message calls `what`, is not JSON.
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=make_object)
    except (ValueError, RecursionError):
        raise MalformedBody(f"{what} is not valid JSON.") from None
