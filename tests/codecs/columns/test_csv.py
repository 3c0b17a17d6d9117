"""CSV: a header, then cells; with all common quotes, line ends and byte order marks."""

import csv as reader
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.columns import csv
from app.codecs.result import PIECE_ROWS, Result
from app.errors import InvalidInput, MalformedBody
from app.feature import Feature, Kind
from tests.codecs.support import FEATURES, GOOD, ROWS, csv_lines, errors_of

LINES = csv_lines(GOOD)
PAIR = (Feature(name="a"), Feature(name="b, \"c\"", required=False))  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        LINES,
        b"\xef\xbb\xbf" + LINES,
        LINES.replace(b"\n", b"\r\n"),
        LINES.rstrip(b"\n"),
        LINES.replace(b"\n", b"\n\n"),
        b"\n".join(b",".join(b'"%s"' % cell for cell in line.split(b",")) for line in LINES.splitlines()),
        LINES.replace(b"True", b"true").replace(b"False", b"0"),
        LINES.replace(b",", b" , ").replace(b" , ", b",", 4),
    ],
    ids=["plain", "byte order mark", "CRLF", "no last line end", "blank lines", "quotes", "booleans", "spaces"],
)
def test_common_ways_to_write_lines_are_read(body: bytes) -> None:
    np.testing.assert_array_equal(csv.decode(body, FEATURES, ROWS), GOOD)


def test_columns_may_be_in_any_order_and_optional_ones_left_out() -> None:
    np.testing.assert_array_equal(csv.decode(b"a\n1\n", PAIR, ROWS), [[1, np.nan]])
    body = b'"b, ""c""",a\n,1\n2,3e0\n'
    np.testing.assert_array_equal(csv.decode(body, PAIR, ROWS), [[1, np.nan], [3, 2]])


def test_a_header_without_lines_is_an_empty_batch() -> None:
    assert csv.decode(b"a\n", PAIR, ROWS).shape == (0, 2)
    assert csv.decode(b"a", PAIR, ROWS).shape == (0, 2)


def test_every_wrong_column_is_named() -> None:
    assert errors_of("csv", b"n,n,zip,flag,ranged\n1,1,text,1,1\n") == {
        "x": "is missing",
        "n": "appears more than once",
        "zip": "unknown field",
    }


def test_columns_with_bad_cells_are_named_with_their_first_row() -> None:
    body = b"x,ranged,n,flag,maybe\n1,1,1,1,1\n,1,1.5,yes,secret\nsecret,11,x,2,0x10\n-,0,1,,1e\n"
    assert errors_of("csv", body) == {
        "x": "must be a number (2 rows, the first is row 2)",
        "ranged": "must be in the range 0 to 10 (row 2)",
        "n": "must be a whole number (2 rows, the first is row 1)",
        "flag": "must be true or false (2 rows, the first is row 1)",
        "maybe": "must be a number (3 rows, the first is row 1)",
    }


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "INF", "1e999"])
def test_cells_that_are_not_finite_are_refused(cell: str) -> None:
    assert errors_of("csv", LINES.replace(b"1e+300", cell.encode())) == {"x": "must be a finite number (row 2)"}


@pytest.mark.parametrize("kind", ["number", "integer", "category"])
@pytest.mark.parametrize("cell", ["+2", "+2.", "+2e0", "+.2e1", "+2.0", "+inf", "nan(7)", "++2", "+", "nan(", "+0x2"])
def test_a_cell_means_the_same_whatever_stands_in_other_cells(cell: str, kind: Kind) -> None:
    """Arrow converts the cells of most bodies; a body with `true` in a column of numbers is read as text."""
    feature = Feature(name="a", kind=kind, required=False, categories=(1, 2) if kind == "category" else None)
    found: list[object] = []
    for line in ("1,1", "1,true"):
        try:
            found.append(csv.decode(f"a,b\n{cell},1\n{line}\n".encode(), (feature, Feature(name="b")), ROWS).tolist())
        except InvalidInput as error:
            found.append(error.errors)
    assert repr(found[0]) == repr(found[1])
    assert ("++" in cell or cell in ("+", "+inf", "nan(", "+0x2")) == isinstance(found[0], tuple)


def test_a_fault_has_one_text_in_every_block() -> None:
    line = b"1.0,5,7,1,2.25\n"
    body = b"x,ranged,n,flag,maybe\n" + line * 150_000  # three blocks
    for row in (0, 75_000, 149_999):
        at = len(b"x,ranged,n,flag,maybe\n") + row * len(line)
        with pytest.raises(InvalidInput) as caught:
            csv.decode(body[:at] + b"oops" + body[at + 3 :], FEATURES, 10**6)
        assert caught.value.errors[0].message == f"must be a number (row {row})"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n\n", b"a\n1,2\n", b"a\n1\n2,3\n", b"a\n\xff\n", b"a\n" + b"1" * 3_000_000,
    ],
)  # fmt: skip
def test_a_body_that_is_not_csv_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="The body is not valid CSV: lines of as many cells as the first, in UTF-8"):
        csv.decode(body, PAIR, ROWS)


@pytest.mark.parametrize("body", [b'a\n"1\n', b'"a\n', b"a\n" + b'"' * 2_000_000 + b"\n"])
def test_unclosed_quotes_are_malformed(body: bytes) -> None:
    with pytest.raises((MalformedBody, InvalidInput)):
        csv.decode(body, PAIR, ROWS)


numbers = st.floats() | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 1e22, 1e-7])


@given(st.lists(st.tuples(numbers, st.floats(0, 1e300)), max_size=20))
def test_results_read_back_bit_for_bit(rows: list[tuple[float, float]]) -> None:
    prediction, half = np.array(rows, dtype=np.float64).reshape(-1, 2).T.copy()
    with np.errstate(over="ignore"):
        answer = Result(prediction, half, "1")
        lines = list(reader.reader(io.StringIO(b"".join(csv.encode(answer)).decode())))
        expected = list(answer.columns(0, len(rows)).values())
    assert lines[0] == ["prediction", "lower", "upper"]
    for column, values in enumerate(expected):
        found = np.array([line[column] for line in lines[1:]], dtype=np.float64)
        np.testing.assert_array_equal(found, values)
        known = ~np.isnan(values)  # a NaN's sign says nothing
        np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(values[known]))


def test_a_long_result_has_one_header() -> None:
    prediction = np.random.default_rng(0).normal(size=PIECE_ROWS + 1)
    lines = b"".join(csv.encode(Result(prediction, None, "1"))).split()
    assert lines[0] == b"prediction"
    np.testing.assert_array_equal(np.array(lines[1:], dtype=np.float64), prediction)
