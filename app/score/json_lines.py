"""Lines of JSON as record batches. Features are read by the service's rules, whatever the types of other rows.

The other columns get their types from the first block: whoever writes Parquet needs one type for all rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from app.codecs.categories import holds_numbers, holds_text
from app.codecs.rules import broken_rule, fault_text, limits_of
from app.feature import Feature
from app.score.options import ScoreRefused

BLOCK_BYTES = 2**22
"""Bytes of a block: their rows are a record batch."""

LONGEST_LINE = 2**26
"""Most bytes of a line."""

LINE = "(row)"
NO_OBJECT = "is not one JSON object"
OTHER_TYPE = "has another type than in the rows before"
NEW_COLUMN = "is a column that the first rows do not have"

BOM = b"\xef\xbb\xbf"

Unread = dict[tuple[str, str], list[int]]
"""Rows of a record batch that cannot be read, by column and reason."""

NOTHING: Unread = {}
"""For batches that can be read. It is not changed."""

Wanted = Callable[[Any], list[str]]
"""Names of the columns to read, by the schema of the file."""


def read_lines(file: BinaryIO, features: tuple[Feature, ...], wanted: Wanted) -> Iterator[tuple[Any, Unread]]:
    """Record batches of lines of JSON, and the rows of each that cannot be read, which are null.

    Args:
        file: The lines.
        features: Features by the input's names.
        wanted: Tells the columns to read.

    Raises:
        ScoreRefused: A line is too long, or the first block does not have the model's columns.
    """
    lines: _Lines | None = None
    for block in _blocks(file):
        unread: Unread = defaultdict(list)
        rows = _decoded(block, unread)
        if not rows:
            continue
        lines = lines or _Lines(features, wanted, rows)
        yield lines.batch(rows, unread), unread
    if lines is None:
        yield _Lines(features, wanted, []).batch([], {}), {}


class _Lines:
    """Makes record batches of rows of one file.

    Args:
        features: Features by the input's names.
        wanted: Tells the columns to read.
        first: Rows of the first block.
    """

    def __init__(self, features: tuple[Feature, ...], wanted: Wanted, first: list[dict[str, Any]]) -> None:
        self._wanted = wanted
        self._known = dict.fromkeys(name for row in first for name in row)
        if first and not self._known:
            raise ScoreRefused("The first lines are no JSON objects with columns.")
        self._names = wanted(_schema(self._known)) if first else [feature.name for feature in features]
        self._features = {feature.name: feature for feature in features}
        self._types: dict[str, Any] = {}

    def batch(self, rows: list[dict[str, Any]], unread: Unread) -> Any:
        """The rows as a record batch; what cannot be read of them is added to `unread`."""
        new = {*set[str]().union(*rows)} - self._known.keys()
        if new:
            for name in {*self._wanted(_schema({**self._known, **dict.fromkeys(new)}))} & new:
                unread[name, NEW_COLUMN].extend(index for index, row in enumerate(rows) if name in row)
        columns: list[Any] = []
        for name in self._names:
            values = [row.get(name) for row in rows]
            feature = self._features.get(name)
            columns.append(
                self._kept(name, values, unread) if feature is None else _feature_column(feature, values, unread)
            )
        return pa.record_batch(columns, self._names)

    def _kept(self, name: str, values: list[Any], unread: Unread) -> Any:
        """A column that is no feature, of the type that it has in the first block."""
        kind = self._types.get(name)
        column = _column(values, kind)
        if column is None:
            if kind is None:
                first = _column([next(value for value in values if value is not None)], None)
                kind = pa.null() if first is None else first.type
            for row, value in enumerate(values):
                if _column([value], kind) is None:
                    unread[name, OTHER_TYPE].append(row)
                    values[row] = None
            column = pa.array(values, kind)
        self._types[name] = column.type
        return column


def _schema(names: dict[str, None]) -> Any:
    return pa.schema([(name, pa.null()) for name in names])


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, of about `BLOCK_BYTES`."""
    rest, begun = b"", False
    while block := file.read(BLOCK_BYTES):
        if not begun:
            block, begun = block.removeprefix(BOM), True
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = b""
        rest += block[cut:]
        if len(rest) > LONGEST_LINE:
            raise ScoreRefused(f"A line of JSON is longer than {LONGEST_LINE} bytes.")
    yield rest


def _decoded(lines: bytes, unread: Unread) -> list[dict[str, Any]]:
    """The objects of lines. Where a line is none, all are read one by one, and that row is empty."""
    try:
        return _decoder.decode_lines(lines)
    except _NOT_JSON:
        pass
    rows: list[dict[str, Any]] = []
    for line in lines.split(b"\n"):
        if line.strip():
            try:
                rows.append(_decoder.decode(line))
            except _NOT_JSON:
                unread[LINE, NO_OBJECT].append(len(rows))
                rows.append({})
    return rows


def _feature_column(feature: Feature, values: list[Any], unread: Unread) -> Any:
    """The values of a feature; where they are not all of its usual type, each is held to the feature's rule."""
    try:
        return pa.array(values, _type_of(feature))
    except _NOT_ARROW:
        pass
    limits, good = limits_of(feature), list[Any]()
    for row, value in enumerate(values):
        rule = None if value is None else broken_rule(feature, value, limits)
        if rule is not None:
            unread[feature.name, fault_text(feature, rule)].append(row)
        good.append(value if rule is None else None)
    if feature.kind != "category":
        return pa.array([None if value is None else float(value) for value in good], pa.float64())
    texts = isinstance(next((value for value in good if value is not None), None), str)
    for row, value in enumerate(good):
        if value is not None and isinstance(value, str) != texts:
            unread[feature.name, OTHER_TYPE].append(row)
            good[row] = None
    if texts:
        return pa.array(good, pa.string())
    try:
        return pa.array([int(value) if isinstance(value, bool) else value for value in good])
    except _NOT_ARROW:  # a whole number that no integer of Arrow holds
        return pa.array([None if value is None else float(value) for value in good], pa.float64())


def _type_of(feature: Feature) -> Any:
    """Type that a feature's values usually have; None for a category that may be a number."""
    if feature.kind == "category":
        return pa.string() if holds_text(feature) and not holds_numbers(feature) else None
    return pa.bool_() if feature.kind == "boolean" else pa.float64()


def _column(values: list[Any], kind: Any) -> Any:
    """A column of a type, or of the type that the values have; None where they are of another one."""
    try:
        if kind is not None and pa.types.is_nested(kind):
            return pa.array(values, kind) if all(_fits(value, kind) for value in values) else None
        column = pa.array(values)
        if kind is None or column.type == kind:
            return column
        numbers = pa.types.is_integer(column.type) and (pa.types.is_floating(kind) or pa.types.is_integer(kind))
        return column.cast(kind) if numbers or pa.types.is_null(column.type) else None
    except _NOT_ARROW:
        return None


def _fits(value: Any, kind: Any) -> bool:
    """Whether an object or array has nothing that a nested type would drop."""
    if isinstance(value, dict) and pa.types.is_struct(kind):
        places = {name: kind.get_field_index(name) for name in value}
        return all(place >= 0 and _fits(value[name], kind.field(place).type) for name, place in places.items())
    if isinstance(value, list) and pa.types.is_list(kind):
        return all(_fits(one, kind.value_type) for one in value)
    return value is None or (not pa.types.is_nested(kind) and _column([value], kind) is not None)


_decoder = msgspec.json.Decoder(dict[str, Any])
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_ARROW = (pa.ArrowException, OverflowError, TypeError, ValueError)
