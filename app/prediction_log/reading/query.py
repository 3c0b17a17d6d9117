"""Query of `GET /predictions`: which rows, in which order, and how many."""

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Literal, get_args
from urllib.parse import parse_qs

import msgspec

from app.errors import FieldError, InvalidInput
from app.prediction_log.reading.moment import FORMS, read_moment

Order = Literal["newest", "oldest"]
Position = int | tuple[str, int]
"""Place of a row among all: its id in the table, or the name of its file and its index in it."""

PAGE_ROWS = 100
MOST_PAGE_ROWS = 1_000
"""Rows of an answer in JSON, by default and at most."""

EXPORT_ROWS = 1_000_000
MOST_EXPORT_ROWS = 100_000_000
"""The same of the other formats, which are sent while they are read."""

TEXT_LENGTH = 128
KINDS = ("single", "batch")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are asked for.

    Attributes:
        since: Time of the oldest row.
        until: Time before which all rows are.
        equal: Values of columns that must be equal, by name.
        order: Whether the newest or the oldest row comes first.
        limit: Most rows.
        after: Position of the row before the first one.
    """

    since: datetime | None = None
    until: datetime | None = None
    equal: dict[str, str] = {}
    order: Order = "newest"
    limit: int = PAGE_ROWS
    after: Position | None = None


def query_of(text: bytes, *, export: bool) -> Query:
    """Read a query string.

    Args:
        text: The query string.
        export: Whether the format of the answer is not JSON.

    Raises:
        InvalidInput: Parameters are unknown, repeated or not valid; each is named.
    """
    given = parse_qs(text.decode("latin-1"), keep_blank_values=True)
    most = MOST_EXPORT_ROWS if export else MOST_PAGE_ROWS
    readers: dict[str, Callable[[str], Any]] = {
        "since": _time, "until": _time, "model_name": _text, "model_version": _text, "request_id": _text,
        "prediction_type": partial(_one_of, KINDS), "order": partial(_one_of, get_args(Order)),
        "limit": partial(_count, most), "cursor": _decoded,
    }  # fmt: skip
    found: dict[str, Any] = {"limit": EXPORT_ROWS if export else PAGE_ROWS}
    faults: list[FieldError] = []
    for name, values in given.items():
        try:
            if name not in readers:
                raise ValueError("unknown query parameter")
            if len(values) != 1:
                raise ValueError("must be given once")
            found[name] = readers[name](values[0])
        except ValueError as error:
            faults.append(FieldError(name[:TEXT_LENGTH], str(error)))
    order, after = found.pop("cursor", (found.get("order", "newest"), None))
    if found.setdefault("order", order) != order:
        faults.append(FieldError("cursor", f"is that of an answer with order={order}"))
    if faults:
        raise InvalidInput("The query is not valid.", tuple(faults[:100]))
    columns = ("model_name", "model_version", "request_id", "prediction_type")
    equal = {name: found.pop(name) for name in columns if name in found}
    return Query(**found, equal=equal, after=after)


def cursor_of(order: Order, position: Position) -> str:
    """Text by which the next request goes on behind a row."""
    return base64.urlsafe_b64encode(msgspec.json.encode((order, position))).decode().rstrip("=")


def _decoded(text: str) -> tuple[Order, Position]:
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        order, position = msgspec.json.decode(content, type=tuple[Order, int | tuple[str, int]])
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise ValueError("must be the `next` of an answer") from None
    numbers = (position,) if isinstance(position, int) else position[1:]
    if not all(0 <= number < 2**63 for number in numbers):
        raise ValueError("must be the `next` of an answer")
    return order, position


def _time(text: str) -> datetime:
    """A time in UTC. In a query string that is not quoted, the plus of an offset is a blank."""
    for spelling in (text, "+".join(text.rsplit(" ", 1))):
        with suppress(ValueError):
            if (moment := read_moment(spelling)).tzinfo is not None:
                return moment
    raise ValueError(f"must be {FORMS}; a time needs its zone")


def _text(text: str) -> str:
    if not 0 < len(text) <= TEXT_LENGTH or "\0" in text:
        raise ValueError(f"must have 1 to {TEXT_LENGTH} characters, none of them zero")
    return text


def _one_of(choices: tuple[str, ...], text: str) -> str:
    if text not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return text


def _count(most: int, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and 1 <= int(text) <= most):
        raise ValueError(f"must be a number from 1 to {most}")
    return int(text)
