"""Bodies with outcomes: each format, and each fault by the field that it is about."""

import msgspec
import pytest

from app.errors import FieldError, InvalidInput, MalformedBody, ServiceError, UnsupportedMediaType
from app.outcomes.body import FAULTS, MOST_OUTCOMES, Outcome, Read, read_outcomes

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv; charset=utf-8"
LIST = b'{"outcomes": [%s]}'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"outcomes": [{"request_id": "a", "actual": 2.5}, {"request_id": "b", "row": 3, "actual": "x"}]}', JSON),
        (b'{"request_id": "a", "actual": 2.5}\n\n {"actual": "x", "row": 3, "request_id": "b"}\n', NDJSON),
        (b"actual,request_id,row\r\n2.5,a,0\r\n\r\nx,b,3\r\n", CSV),
        (b'\xef\xbb\xbfrequest_id,actual,row\n"a",2.50,0\nb,"x",3', CSV),
    ],
)
def test_every_format_holds_the_same_outcomes(body: bytes, kind: str) -> None:
    assert read_outcomes(body, kind) == [Outcome("a", 2.5), Outcome("b", "x", 3)]


def test_one_outcome_and_the_kinds_of_values() -> None:
    assert read_outcomes(b'{"request_id": "a", "actual": true}', JSON) == [Outcome("a", True)]
    assert read_outcomes(b"request_id,actual\na,true\nb,no\nc,7\nd,1_0", CSV) == [
        Outcome("a", True), Outcome("b", "no"), Outcome("c", 7.0), Outcome("d", "1_0"),
    ]  # fmt: skip


ODD = [
    (b"1", FieldError("(body)", "must be an object with request_id and actual")),
    (b'{"actual": 1}', FieldError("request_id", "is missing")),
    (b'{"request_id": "a"}', FieldError("actual", "is missing")),
    (b'{"request_id": "a", "actual": 1, "when": 2}', FieldError("when", "is not a field of an outcome")),
    (b'{"request_id": "a", "actual": 1, "actual": 2}', FieldError("(body)", "appears more than once")),
    *[(b'{"request_id": %s, "actual": 1}' % value, FieldError("request_id", FAULTS["request_id"]))
      for value in (b'""', b'"a b"', b'"a\\n"', b"7", b"null", b'"%s"' % (b"a" * 129))],
    *[(b'{"request_id": "a", "actual": %s}' % value, FieldError("actual", FAULTS["actual"]))
      for value in (b'""', b"null", b"[1]", b"1e999", b'"%s"' % (b"a" * 257))],
    *[(b'{"request_id": "a", "actual": 1, "row": %s}' % value, FieldError("row", FAULTS["row"]))
      for value in (b"-1", b"1.5", b'"0"', b"null", b"2147483648")],
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), ODD)
def test_a_faulty_outcome_is_refused_alone(text: bytes, fault: FieldError) -> None:
    good = b'{"request_id": "b", "actual": 1}'
    expected: list[Read] = [Outcome("b", 1.0), fault, Outcome("b", 1.0)]
    assert read_outcomes(LIST % b", ".join((good, text, good)), JSON) == expected
    assert read_outcomes(b"\n".join((good, text, good)), NDJSON) == expected
    if text != b"1":
        with pytest.raises(InvalidInput) as caught:
            read_outcomes(text, JSON)
        assert caught.value.errors == (fault,)


def test_a_faulty_line_of_csv_is_refused_alone() -> None:
    lines = b"request_id,row,actual\na,-1,2\na b,0,2\na,0,nan\na,0,\na,0,1e999\nb,0,1"
    fields = [read.field for read in read_outcomes(lines, CSV) if isinstance(read, FieldError)]
    assert fields == ["row", "request_id", "actual", "actual", "actual"]


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"{", JSON, MalformedBody),
        (b"[]", JSON, InvalidInput),
        (b'{"outcomes": []}', JSON, InvalidInput),
        (b'{"outcomes": {}}', JSON, InvalidInput),
        (b'{"outcomes": [1], "more": 1}', JSON, InvalidInput),
        (b'{"outcomes": [1], "outcomes": [1]}', JSON, InvalidInput),
        (b"", NDJSON, InvalidInput),
        (b'{"request_id": "a", "actual": 1}\n{', NDJSON, MalformedBody),
        (b'{"outcomes": [{"request_id": "\xff", "actual": 1}]}', JSON, MalformedBody),
        (b'{"outcomes": [{"request_id": 1, "actual": "\\ud800"}]}', JSON, MalformedBody),
        (b'{"x": %s}' % (b"[" * 100_000), NDJSON, MalformedBody),
        (b"", CSV, InvalidInput),
        (b"request_id,actual\n", CSV, InvalidInput),
        (b"request_id,target\na,1", CSV, InvalidInput),
        (b"request_id,actual\na", CSV, MalformedBody),
        (b'request_id,actual\n"a,1', CSV, MalformedBody),
        (b"request_id,actual\na,\xff", CSV, MalformedBody),
        (LIST % b",".join([b"1"] * (MOST_OUTCOMES + 1)), JSON, InvalidInput),
        (b"1\n" * (MOST_OUTCOMES + 1), NDJSON, InvalidInput),
    ],
)
def test_a_body_that_is_not_in_its_format_is_refused(body: bytes, kind: str | None, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        read_outcomes(body, kind)


@pytest.mark.parametrize("kind", [None, "application/xml", "application/vnd.apache.parquet"])
def test_another_format_is_refused_with_those_that_are_read(kind: str | None) -> None:
    with pytest.raises(UnsupportedMediaType, match=r": application/json, application/x-ndjson, text/csv\.$"):
        read_outcomes(b"", kind)
    assert read_outcomes(b'{"request_id": "a", "actual": 1}', "application/jsonl") == [Outcome("a", 1.0)]


def test_the_most_outcomes_are_taken() -> None:
    body = msgspec.json.encode({"outcomes": [{"request_id": "a", "actual": 1}] * MOST_OUTCOMES})
    assert len(read_outcomes(body, JSON)) == MOST_OUTCOMES
