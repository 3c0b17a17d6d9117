"""Bodies with outcomes: one object or a list in JSON, lines of objects, or CSV. A faulty outcome is refused alone."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from app.codecs.columns import csv as csv_table
from app.codecs.formats import content_format
from app.codecs.json import ndjson
from app.codecs.json import table as json_table
from app.codecs.json.duplicates import has_repeated
from app.codecs.rules import BODY, REPEATED, Buffer
from app.errors import FieldError, InvalidInput, MalformedBody, UnsupportedMediaType
from app.feature import Category

MOST_OUTCOMES = 10_000
"""Most outcomes of one request, which one transaction writes."""

NAMES = ", ".join((json_table.MEDIA_TYPE, ndjson.MEDIA_TYPE, csv_table.MEDIA_TYPE))

LABEL_LENGTH = 256
COLUMNS = ("request_id", "row", "actual")

RequestId = Annotated[
    str,
    # The lookahead, since $ also stands before a line feed at the end.
    Meta(pattern=r"^[A-Za-z0-9._:/+=@-]{1,128}$(?!\n)", description="Id of the request, as its answer has it."),
]
RowIndex = Annotated[int, Meta(ge=0, le=2**31 - 1, description="Index of the row within its request.")]
Actual = Annotated[str, Meta(min_length=1, max_length=LABEL_LENGTH)] | float | bool


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a prediction.

    Attributes:
        request_id: Id of the request.
        actual: The actual value, or the label or index of the class.
        row: Index of the row within its request.
    """

    request_id: RequestId
    actual: Actual
    row: RowIndex = 0

    @property
    def key(self) -> tuple[str, int]:
        """What the outcome is of."""
        return self.request_id, self.row


class OutcomeList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of many outcomes in JSON, each as it was sent."""

    outcomes: list[msgspec.Raw]


Read = Outcome | FieldError
"""An outcome, or why it is none."""

FAULTS = {
    "request_id": "must be the id of a request: 1 to 128 letters, digits or ._:/+=@-",
    "row": "must be a whole number from 0 to 2147483647",
    "actual": f"must be a finite number, true, false, or text of 1 to {LABEL_LENGTH} characters",
}

_WORDS = {"true": True, "false": False}


def read_outcomes(body: Buffer, content_type: str | None) -> list[Read]:
    """Read a body, which is at most MAX_JSON_BYTES large.

    Args:
        body: The body.
        content_type: Its format: JSON, NDJSON or CSV.

    Raises:
        UnsupportedMediaType: It is in another format.
        MalformedBody: The body is not in its format.
        InvalidInput: It holds no outcome or more than MOST_OUTCOMES, or its one outcome is not valid.
    """
    readers: dict[Any, Callable[[bytes], Iterator[Read]]] = {
        json_table.decode: _read_json, ndjson.decode: _read_lines, csv_table.decode: _read_csv,
    }  # fmt: skip
    read = readers.get(content_format(content_type, NAMES).decode)
    if read is None:
        raise UnsupportedMediaType(f"Outcomes must come with one of these as Content-Type: {NAMES}.")
    outcomes = list(islice(read(bytes(body)), MOST_OUTCOMES + 1))
    if not 1 <= len(outcomes) <= MOST_OUTCOMES:
        error = FieldError("outcomes", f"must be 1 to {MOST_OUTCOMES}")
        raise InvalidInput("The body is not valid.", (error,))
    return outcomes


def _read_json(body: bytes) -> Iterator[Read]:
    try:
        given: Any = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise InvalidInput(
            "The body is not valid.", (FieldError(BODY, "must be an object with outcomes, a list, or one outcome"),)
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedBody("The body is not valid JSON.") from None
    if "outcomes" in given:
        try:
            outcomes = msgspec.json.decode(body, type=OutcomeList).outcomes
        except msgspec.ValidationError:
            error = FieldError("outcomes", "must be the only field, and a list")
            raise InvalidInput("The body is not valid.", (error,)) from None
        if body.count(b'"outcomes"') > 1 and has_repeated(body):
            raise InvalidInput("The body is not valid.", (FieldError("outcomes", REPEATED),))
        yield from map(_read_one, map(bytes, outcomes))
        return
    outcome = _read_one(body)
    if isinstance(outcome, FieldError):
        raise InvalidInput("The outcome is not valid.", (outcome,))
    yield outcome


def _read_lines(body: bytes) -> Iterator[Read]:
    for number, line in enumerate(filter(bytes.strip, io.BytesIO(body))):
        yield _read_one(line, f"Row {number} of the body")


def _read_one(text: bytes, what: str = "The body") -> Read:
    """Read an outcome.

    Raises:
        MalformedBody: The text, which the message calls `what`, is not JSON.
    """
    try:
        try:
            outcome = msgspec.json.decode(text, type=Outcome)
        except msgspec.ValidationError as error:
            return _fault(text, error)
        # Two names and a text have six quotes.
        return FieldError(BODY, REPEATED) if text.count(b'"') > 6 and has_repeated(text) else outcome
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedBody(f"{what} is not valid JSON.") from None


def _fault(text: bytes, error: msgspec.ValidationError) -> FieldError:
    """The fault of an outcome in JSON, by the field that the error is about."""
    if (name := _field(error)) is not None:
        return FieldError(name, FAULTS[name])
    given = msgspec.json.decode(text)
    if not isinstance(given, dict):
        return FieldError(BODY, "must be an object with request_id and actual")
    names = cast(dict[str, Any], given)
    for name in ("request_id", "actual"):
        if name not in names:
            return FieldError(name, "is missing")
    unknown = next((name for name in names if name not in COLUMNS), BODY)
    return FieldError(unknown[:128], "is not a field of an outcome")


def _field(error: msgspec.ValidationError) -> str | None:
    """Field that an error of msgspec is about."""
    found = re.search(r"at `\$\.(\w+)`$", str(error))
    return found[1] if found is not None and found[1] in FAULTS else None


def _read_csv(body: bytes) -> Iterator[Read]:
    malformed = "The body is not valid CSV: lines of as many cells as the header, in UTF-8."
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header = next((line for line in lines if line), [])
        if sorted(header) not in (sorted(COLUMNS), ["actual", "request_id"]):
            error = FieldError(BODY, "must have a header of request_id, actual and, if there are batches, row")
            raise InvalidInput("The columns are not those of outcomes.", (error,))
        for line in filter(None, lines):
            if len(line) != len(header):
                raise MalformedBody(malformed)
            cells: dict[str, Any] = dict(zip(header, line, strict=True))
            cells["actual"] = _cell(cells["actual"])
            yield _of_cells(cells)
    except (csv.Error, UnicodeDecodeError):
        raise MalformedBody(malformed) from None


def _of_cells(cells: dict[str, Any]) -> Read:
    row = cells.get("row")
    if row is not None:
        if re.fullmatch("[0-9]{1,10}", row.strip()) is None:
            return FieldError("row", FAULTS["row"])
        cells["row"] = int(row)
    try:
        outcome = msgspec.convert(cells, Outcome)
    except msgspec.ValidationError as error:
        name = _field(error) or "actual"
        return FieldError(name, FAULTS[name])
    if isinstance(outcome.actual, float) and not math.isfinite(outcome.actual):
        return FieldError("actual", FAULTS["actual"])
    return outcome


def _cell(text: str) -> Category:
    """The value of a cell: a number, true or false, or else text."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text
