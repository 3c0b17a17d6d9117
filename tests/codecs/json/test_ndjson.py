"""Lines of JSON: one object a line, and every fault named with its field and first row."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs import batch_builder
from app.codecs.json import ndjson
from app.codecs.result import PIECE_ROWS, Result
from app.errors import InvalidInput, MalformedBody
from app.feature import Feature
from tests.codecs.support import FEATURES, GOOD, ROWS, errors_of, json_lines, objects

LINES = json_lines(GOOD)
LOOSE = (Feature(name="a", required=False),)


@pytest.mark.parametrize(
    "body",
    [LINES, LINES.replace(b"\n", b"\r\n"), LINES.rstrip(b"\n"), b"\n \n" + LINES.replace(b"\n", b"\n\t\n\r\n")],
    ids=["plain", "CRLF", "no last line end", "blank lines"],
)
def test_common_ways_to_write_lines_are_read(body: bytes) -> None:
    np.testing.assert_array_equal(ndjson.decode(body, FEATURES, ROWS), GOOD)


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\n"])
def test_a_body_without_lines_is_an_empty_batch(body: bytes) -> None:
    assert ndjson.decode(body, FEATURES, ROWS).shape == (0, 5)


def test_optional_features_may_be_left_out_of_any_line() -> None:
    rows = ndjson.decode(b'{"a": 1}\n{}\n{"a": null}\n', LOOSE, ROWS)
    np.testing.assert_array_equal(rows, [[1], [np.nan], [np.nan]])


def changed(row: int, **values: Any) -> bytes:
    """GOOD's lines, one of them changed; a value of ... is left out."""
    rows = objects(GOOD)
    rows[row] = {name: value for name, value in (rows[row] | values).items() if value is not ...}
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": "1.5"}, "must be a number (row 1)"),
        ({"x": [1]}, "must be a number (row 1)"),
        ({"x": None}, "must be a finite number (row 1)"),
        ({"x": np.nan}, "must be a finite number (row 1)"),
        ({"x": 10**400}, "must be a finite number (row 1)"),
        ({"maybe": np.nan}, "must be a finite number (row 1)"),
        ({"n": 1.5}, "must be a whole number (row 1)"),
        ({"n": 2**63}, "must be in the range -9007199254740992 to 9007199254740992 (row 1)"),
        ({"flag": 2}, "must be true or false (row 1)"),
        ({"x": ...}, "is missing (row 1)"),
        ({"zip": "secret"}, "unknown field"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_and_row(values: dict[str, Any], message: str) -> None:
    assert errors_of("ndjson", changed(1, **values)) == {next(iter(values)): message}


def test_a_field_missing_in_every_line_is_missing() -> None:
    assert errors_of("ndjson", b'{"ranged": 1, "n": 1}\n' * 3) == {"x": "is missing"}


def test_every_fault_of_every_line_is_named_at_once() -> None:
    body = changed(0, x="a", zip=1) + changed(2, ranged=11, n=...) + b"[]\n" + changed(2, x=[])
    assert errors_of("ndjson", body) == {
        "(body)": "must be an object of features by name (row 6)",
        "x": "must be a number (2 rows, the first is row 0)",
        "ranged": "must be in the range 0 to 10 (row 5)",
        "n": "is missing (row 5)",
        "zip": "unknown field",
    }


def test_a_fault_has_one_text_in_every_block() -> None:
    lines = LINES.splitlines(keepends=True)[:1] * 5000
    for row in (0, 2500, 4999):
        bad = [*lines[:row], b'{"x": "a", "ranged": 1, "n": 1}\n', *lines[row + 1 :]]
        with pytest.raises(InvalidInput) as caught:
            ndjson.decode(b"".join(bad), FEATURES, 10**6)
        assert caught.value.errors[0].message == f"must be a number (row {row})"


def test_at_most_a_thousand_errors_are_answered() -> None:
    body = b"".join(b'{"f%d": 1}\n' % index for index in range(3000))
    with pytest.raises(InvalidInput) as caught:
        ndjson.decode(body, LOOSE, 10**6)
    assert len(caught.value.errors) == 1000


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b"{", 3), (b"x", 3), (b'{"a": 1} {"a": 2}', 3), (b'{"a": 1}{"a": 2}', 3), (b'{"a":', 3), (b"[" * 50_000, 3),
        (b"\xff", 3), (b'{"a": 1' + b"0" * 5000 + b"}", 3),
    ],
)  # fmt: skip
def test_a_line_that_is_not_json_is_malformed(line: bytes, row: int) -> None:
    body = b'{"a": 1}\n' * row + line + b'\n{"a": 2}\n'
    with pytest.raises(MalformedBody, match=f"Row {row} of the body is not valid JSON"):
        ndjson.decode(body, LOOSE, ROWS)


def test_an_object_over_two_lines_is_malformed() -> None:
    with pytest.raises(MalformedBody):
        ndjson.decode(b'{"a":\n1}\n', LOOSE, ROWS)


def test_a_line_longer_than_any_row_is_malformed() -> None:
    with pytest.raises(MalformedBody, match="Row 1 of the body is longer than 66560 bytes"):
        ndjson.decode(b'{"a": 1}\n{"a": ' + b" " * 500_000 + b"1}\n", LOOSE, ROWS)


numbers = st.floats(-1e308, 1e308) | st.sampled_from([-0.0, 5e-324, 1e22, 1e-7])


@given(st.lists(numbers, max_size=20))
def test_results_read_back_bit_for_bit(values: list[float]) -> None:
    prediction = np.array(values, dtype=np.float64)
    lines = b"".join(ndjson.encode(Result(prediction, np.abs(prediction) / 4, "1"))).splitlines()
    found = [json.loads(line) for line in lines]
    assert [list(row) for row in found] == [["prediction", "lower", "upper"]] * len(values)
    array = np.array([row["prediction"] for row in found], dtype=np.float64)
    assert array.view(np.uint64).tolist() == prediction.view(np.uint64).tolist()


def test_a_long_result_is_complete() -> None:
    prediction = np.random.default_rng(0).normal(size=(PIECE_ROWS + 1, 2))
    rows = [json.loads(line) for line in b"".join(ndjson.encode(Result(prediction, None, "1"))).splitlines()]
    np.testing.assert_array_equal([[row["prediction_0"], row["prediction_1"]] for row in rows], prediction)


def test_reading_stops_after_many_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_builder, "MOST_FAULTS", 100)
    body = b'{"x": "bad"}\n' * 100_000 + b"not even JSON"
    with pytest.raises(InvalidInput, match="not the model's features"):
        ndjson.decode(body, FEATURES, 1_000_000)
