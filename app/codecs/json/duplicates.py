"""Names that appear more than once in a JSON object, which are refused.

JSON leaves their meaning open (RFC 8259, section 4); msgspec and Python take the last value, so that two readers of one
body could see two different rows. A typed decoder does not tell how many names it saw. They are counted by their
colons, in a fraction of the time of decoding. Only if the count differs is the body read again, by a parser that sees
every name.
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from app.codecs.categories import holds_text
from app.errors import MalformedBody
from app.feature import Feature

ABSENT = float("nan")
"""Default of an optional field: this very object, found by identity, marks a name that the row does not have."""

ESCAPED = b"\\u003"
"""What an escaped colon begins with, whose last digit is an a in either case."""

Row = tuple[Any, ...]


class RepeatedName(Exception):
    """A JSON object has a name more than once."""


class Repeating(dict[str, Any]):
    """A JSON object with repeated names, which holds the last value of each.

    Attributes:
        names: All names in order, with their repetitions.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, _ in pairs]


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Hook for `json.loads`: a dict, or `Repeating` if a name appears more than once."""
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeating(pairs)


def repeated_names(value: object) -> set[str]:
    """Names that appear more than once in a parsed object."""
    if not isinstance(value, Repeating):
        return set()
    seen: set[str] = set()
    return {name for name in value.names if name in seen or seen.add(name)}


def has_repeated(text: bytes | bytearray) -> bool:
    """Whether any object in a valid JSON text has a name more than once."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) != len(pairs)

    json.loads(text.decode(), object_pairs_hook=look)
    return found


class NameCount:
    """Tells by counting colons whether a JSON text may repeat a name, of which decoding keeps only one.

    Args:
        features: The model's features. An optional one that was left out is ABSENT in a decoded row.

    Attributes:
        texts: Columns whose values may be text.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self._colons = [1 + feature.name.count(":") for feature in features]
        self._of_whole_row = sum(self._colons)
        self.texts = [
            index for index, feature in enumerate(features) if feature.kind == "category" and holds_text(feature)
        ]
        self._inside = self._of_whole_row > len(features) or bool(self.texts)
        self._optional = not all(feature.required for feature in features)
        self._varies = self._optional or bool(self.texts)

    def may_repeat_in_one(self, text: bytes | bytearray, row: Row) -> bool:
        """As `may_repeat`, for a text of one row, and faster."""
        colons = self._colons_of(row) if self._varies else self._of_whole_row
        return text.count(b":") != colons or (self._inside and ESCAPED in text)

    def may_repeat(
        self, text: bytes | bytearray, count: int, rows: Iterable[Row], names: int = 0, colons: int = 0
    ) -> bool:
        """Whether an object in a text could have a name more than once.

        Every name is followed by a colon, and all other colons are inside names and strings. If the text has as many
        colons as the decoded values account for, no name was dropped. An escaped colon could make up for a dropped one,
        so a text with one is suspect if names or strings have colons.

        Args:
            text: Valid JSON, or lines of JSON.
            count: Number of decoded rows.
            rows: Their values.
            names: Number of names outside the rows.
            colons: Number of colons inside names and strings outside the rows.
        """
        of_rows = count * self._of_whole_row
        if self._inside and self._varies:
            of_rows = sum(map(self._colons_of, rows))
        elif self._optional:
            of_rows -= sum([row.count(ABSENT) for row in rows])
        inside = colons > 0 or self._inside
        return text.count(b":") != of_rows + names + colons or (inside and ESCAPED in text)

    def _colons_of(self, row: Row) -> int:
        """Colons that a row accounts for: inside and behind its names, and inside its texts."""
        if not self._inside:
            return len(row) - row.count(ABSENT)
        colons = self._of_whole_row
        if self._optional:
            colons = sum(colons for colons, value in zip(self._colons, row, strict=True) if value is not ABSENT)
        for index in self.texts:
            if isinstance(value := row[index], str):
                colons += value.count(":")
        return colons


def check_json(text: bytes | bytearray, what: str = "The body") -> None:
    """Refuse what `parse` takes and JSON does not allow, such as a lone surrogate, where no field is at fault.

    Raises:
        MalformedBody: The text, which the message calls `what`, is not JSON.
    """
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedBody(f"{what} is not valid JSON.") from None


def parse(text: bytes | bytearray, what: str = "The body") -> Any:
    """Parse JSON leniently: NaN, Infinity and repeated names are let through, to be named as a field's fault.

    Raises:
        MalformedBody: The text, which the message calls `what`, is not JSON.
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=make_object)
    except (ValueError, RecursionError):
        raise MalformedBody(f"{what} is not valid JSON.") from None
