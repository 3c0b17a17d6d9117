"""JSON bodies of rows, read without the interpreter's lock where they are plain.

Nearly all are: an object of one list or object that holds numbers, and rows that the model takes, with a name or names
before or behind them. All else, valid or not, is left to parsers that know all of JSON and can say what is wrong.
"""

import re
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.codecs.duplicates import has_repeated
from app.codecs.rules import Buffer, FloatArray
from app.feature import Feature
from kernels import json_text
from kernels.json_text import OPEN_LIST, OPEN_OBJECT, UNREAD, read_columns, read_rows

_HEAD = re.compile(
    # The field before the rows, where there is one: text without escapes, or a list that begins with text.
    rb'[ \t\r\n]*+\{((?:[ \t\r\n]*+"[a-z_]++"[ \t\r\n]*+:[ \t\r\n]*+(?:"[^"\\]*+"|\[[ \t\r\n]*+"[^\[\]]*+\])'
    rb'[ \t\r\n]*+,)?+)[ \t\r\n]*+"([a-z]++)"[ \t\r\n]*+:[ \t\r\n]*+[\[{]'
)
WHITE_SPACE = b" \t\r\n"

COLUMNS = 0
"""In the place of what rows open with: columns by name."""

_KINDS = {"number": 0, "integer": json_text.INTEGER, "boolean": json_text.BOOLEAN}


T = TypeVar("T", bound=msgspec.Struct)


class Plain(msgspec.Struct, Generic[T], frozen=True):
    """What a body holds.

    Attributes:
        layout: The field that holds the rows.
        rows: float64[B, F]; a null, and what is not required and was left out, is NaN.
        others: The other fields.
    """

    layout: str
    rows: FloatArray
    others: T


class PlainRows(Generic[T]):
    """Reads rows of one model.

    Args:
        features: What the model takes.
        limits: By feature, the least and greatest value that is taken.
        layouts: By the name of the field that holds the rows, what each of them opens with, or COLUMNS.
        others: The fields that there may be beside it. It must forbid all else.
    """

    def __init__(
        self,
        features: tuple[Feature, ...],
        limits: Sequence[tuple[float, float]],
        layouts: dict[str, int],
        others: type[T],
    ) -> None:
        names = [msgspec.json.encode(feature.name) for feature in features]
        bits = [_KINDS[feature.kind] | (0 if feature.required else json_text.OPTIONAL) for feature in features]
        self._layouts = layouts
        self._others = msgspec.json.Decoder(others)
        self._none = others()
        self._names = (
            np.frombuffer(b"".join(names), np.uint8),
            np.cumsum([0, *map(len, names)]),
        )
        self._values = (
            np.array(bits, np.uint8),
            np.array([low for low, _ in limits], np.float64),
            np.array([high for _, high in limits], np.float64),
        )
        self._width = len(features)
        # Of a row's text: as much as what is required takes, and so much that room for all the rows that a body could
        # hold is at most 16 times its size. Of that the system gives only what is written to.
        self._least_bytes = max(2 + 2 * sum(feature.required for feature in features), len(features) // 2)
        for opening in layouts.values():  # compile the kernels or load them, before a request needs them
            self._read(np.frombuffer(b"", np.uint8), 0, opening, 0)

    def read(self, body: Buffer, max_rows: int) -> Plain[T] | None:
        """Read a body; None where it is not plain, holds no row, or more than `max_rows`."""
        head = _HEAD.match(body)
        if head is None or (layout := head[2].decode()) not in self._layouts:
            return None
        opening, at = self._layouts[layout], head.end()
        if body[at - 1] != (OPEN_OBJECT if opening == COLUMNS else OPEN_LIST):
            return None
        text = np.frombuffer(body, np.uint8)
        text.flags.writeable = False  # one type for all bodies, and so one compiled kernel
        rows, end = self._read(text, at, opening, max_rows)
        if end == UNREAD:
            return None
        others = self._read_others(head[1], text[end:].tobytes().strip(WHITE_SPACE))
        return None if others is None else Plain(layout, rows, others)

    def _read_others(self, before: bytes, after: bytes) -> T | None:
        """What stands around the rows; None where it is not what may stand there."""
        if after == b"}":
            if not before:
                return self._none
            before = before[:-1]
        else:
            comma, after = after[:1], after[1:].lstrip(WHITE_SPACE)
            if comma != b"," or not after.startswith(b'"'):
                return None
        text = b"{" + before + after
        try:
            others = self._others.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return None if text.count(b":") > 1 and has_repeated(text) else others

    def _read(self, text: NDArray[np.uint8], at: int, opening: int, max_rows: int) -> tuple[FloatArray, int]:
        """Read rows that begin at a place: the rows, and where they end, or UNREAD."""
        room = min(max_rows, len(text) // self._least_bytes + 1)
        rows = np.empty((room, self._width))
        if opening == COLUMNS:
            end, count = read_columns(text, at, *self._names, *self._values, rows)
        else:
            end, count = read_rows(text, at, opening, *self._names, *self._values, rows)
        return rows[:count], end
