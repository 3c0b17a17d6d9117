"""Lines of JSON as record batches: exact numbers, types told by the first block, and what cannot be read."""

import io
import json
from typing import Any

import pytest

from app.feature import Feature
from app.score import json_lines
from app.score.json_lines import read_lines
from app.score.options import ScoreRefused

X = Feature(name="x", nullable=True)
FEATURES = (
    X,
    Feature(name="n", kind="integer", nullable=True, required=False),
    Feature(name="b", kind="boolean", nullable=True, required=False),
    Feature(name="c", kind="category", categories=("red", 2, True), required=False),
)


def read(*rows: Any, features: tuple[Feature, ...] = FEATURES) -> tuple[dict[str, list[Any]], dict[Any, list[int]]]:
    """All columns of lines, and the rows that cannot be read."""
    text = b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    columns: dict[str, list[Any]] = {}
    faults: dict[Any, list[int]] = {}
    seen = 0
    for batch, unread in read_lines(io.BytesIO(text), features, lambda schema: schema.names):
        for name in batch.schema.names:
            columns.setdefault(name, []).extend(batch.column(name).to_pylist())
        for fault, places in unread.items():
            faults.setdefault(fault, []).extend(seen + place for place in places)
        seen += batch.num_rows
    return columns, faults


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is a block of its own, as lines far apart in a large file are."""
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 1)


@pytest.mark.parametrize(
    "line", [b"null", b"[1]", b"hello", b'{"x":', b'{"x":NaN}', b'{"x":1e999}', b'{"x":"\xff"}', b"[" * 9999]
)
def test_a_line_that_is_no_object_is_a_bad_row(line: bytes) -> None:
    columns, faults = read({"x": 1}, line, {"x": 2})
    assert columns == {"x": [1.0, None, 2.0]}
    assert faults == {("(row)", "is not one JSON object"): [1]}


def test_integers_are_held_to_their_range_before_they_are_rounded() -> None:
    columns, faults = read({"x": 2**53 + 1, "n": 2**53}, {"x": 10**30, "n": 2**53 + 1}, {"x": True, "n": 10**30})
    assert columns == {"x": [2.0**53, 1e30, 1.0], "n": [2.0**53, None, None]}
    assert list(faults.values()) == [[1, 2]]
    assert next(iter(faults))[0] == "n"


def test_values_of_another_kind_are_told_by_column() -> None:
    rows = [{"x": 1, "n": 2.0, "b": True}, {"x": "1", "n": "2", "b": "yes"}, {"x": None, "b": 1}]
    columns, faults = read(*rows)
    assert columns == {"x": [1.0, None, None], "n": [2.0, None, None], "b": [1.0, None, 1.0]}
    assert {name: places for (name, _), places in faults.items()} == {"x": [1], "n": [1], "b": [1]}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("values", [["red", "blue", None], [2, 7.0, True], [None, "red", 2]])
def test_features_may_have_another_type_in_each_block(values: list[Any]) -> None:
    columns, faults = read(*({"x": 1, "c": value, "b": None} for value in values), {"x": 1, "b": True})
    assert (columns["c"], faults) == ([*values, None], {})
    assert columns["b"] == [None, None, None, True]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("first", "then", "read_as"),
    [(1, 1.5, None), (1, 2**53 + 1, 2**53 + 1), (1.5, 1, 1.0), (None, 1, None), ("a", 1, None), (1, "2", None),
     (1, True, None), ({"a": 1}, {"a": 2}, {"a": 2}), ({"a": 1}, {"b": 1}, None), ({"a": 1}, {"a": 0.5}, None),
     ([1], [2, 3], [2, 3]), ([1], [0.5], None), (2**53 + 1, 2**60, 2**60), (1.5, 2**53 + 1, None)],
)  # fmt: skip
def test_a_kept_column_has_the_type_of_the_first_block(first: Any, then: Any, read_as: Any) -> None:
    columns, faults = read({"x": 1, "id": first}, {"x": 1, "id": then})
    assert columns["id"] == [first, read_as]
    assert faults == ({("id", "has another type than in the rows before"): [1]} if read_as is None else {})


def test_a_kept_column_of_several_types_has_that_of_its_first_row() -> None:
    columns, faults = read(*({"x": 1, "id": value} for value in (None, 1, "a", 2)))
    assert (columns["id"], [*faults.values()]) == ([None, 1, None, 2], [[2]])


@pytest.mark.usefixtures("small_blocks")
def test_a_column_that_appears_later_is_told() -> None:
    _, faults = read({"x": 1}, {"x": 1, "id": 7})
    assert faults == {("id", "is a column that the first rows do not have"): [1]}


@pytest.mark.parametrize(
    ("lines", "message"), [([b"null", b"{}"], "no JSON objects"), ([b'{"x":"' + b"a" * 99], "longer than 64 bytes")]
)
def test_what_is_no_file_of_lines_is_refused(monkeypatch: pytest.MonkeyPatch, lines: list[bytes], message: str) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 64)
    with pytest.raises(ScoreRefused, match=message):
        read(*lines)


def test_a_file_without_rows_has_the_features() -> None:
    assert read(b"\n \n") == ({"x": [], "n": [], "b": [], "c": []}, {})
