"""Repeated names are refused and named, by every reader alike."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.arrays import msgpack
from app.codecs.json import ndjson
from app.codecs.json import table as table_json
from app.codecs.json.row import JsonCodec
from app.errors import InvalidInput
from app.feature import Feature

TWICE = "appears more than once"
FEATURES = (
    Feature(name="a"),
    Feature(name="b:c", required=False),
    Feature(name="\u00e9", kind="boolean", required=False),
)
CODEC = JsonCodec(FEATURES)
OF_COLON_FREE = JsonCodec((Feature(name="a"), Feature(name="b")))
OF_OPTIONAL = JsonCodec((Feature(name="a"), Feature(name="b", required=False)))


def errors_of(read: Any, *arguments: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read(*arguments)
    return {error.field: error.message for error in caught.value.errors}


def body_of(layout: str, rows: list[str], before: str = "") -> bytes:
    return ("{" + before + f'"{layout}": [' + ", ".join(rows) + "]}").encode()


ROWS = {
    '{"a": 1, "a": 2}': "a",
    '{"a": 1, "a": 1}': "a",
    '{"a": "text", "a": 1}': "a",
    '{"a": 1, "a": null}': "a",
    '{"a": 1, "b:c": 1, "a": 1}': "a",
    '{"a": 1, "\\u0061": 1}': "a",
    '{"a": 1, "b\\u003ac": 1, "b:c": 1}': "b:c",
    '{"a": 1, "b\\u003ac": 1, "b\\u003ac": 1}': "b:c",
    '{"a": 1, "\\u00e9": true, "\u00e9": true}': "\u00e9",
    '{"a": 1, "\u00e9": null, "\u00e9": null}': "\u00e9",
    '{"\u00e9": true, "a": 1, "b:c": 1, "\u00e9": null}': "\u00e9",
}
"""Rows, and the name that each has twice."""

FINE = ['{"a": 1}', '{"a": 1, "b\\u003ac": 2}', '{"a": 1, "b:c": null, "\\u00e9": null}', '{"\u00e9": true, "a": 1}']


@pytest.mark.parametrize(("row", "name"), ROWS.items())
def test_a_repeated_name_is_refused_by_every_reader(row: str, name: str) -> None:
    for good in FINE:
        rows = [good, row, good]
        assert errors_of(CODEC.decode_row, row.encode()) == {name: TWICE}
        for before in ("", '"batch_id": "a:b", '):
            batch = CODEC.decode_batch(body_of("predictions", rows, before), 9)
            assert batch.positions == (0, 2)
            assert {at: [(error.field, error.message) for error in errors] for at, errors in batch.errors.items()} == {
                1: [(name, TWICE)]
            }
        expected = {name: f"{TWICE} (row 1)"}
        assert errors_of(table_json.decode, body_of("rows", rows), FEATURES, 9) == expected
        assert errors_of(ndjson.decode, "\n".join(rows).encode(), FEATURES, 9) == expected
        assert errors_of(ndjson.decode, ("\n\n" + "\n".join(rows) + "\n").encode(), FEATURES, 9) == expected


def test_names_with_escapes_are_accepted_once() -> None:
    for row in FINE:
        one, _ = CODEC.decode_row(row.encode())
        assert CODEC.decode_batch(body_of("predictions", [row, row], '"batch_id": "x\\u003a", '), 9).size == 2
        for rows in (
            table_json.decode(body_of("rows", [row, row]), FEATURES, 9),
            ndjson.decode(f"{row}\n{row}".encode(), FEATURES, 9),
        ):
            assert rows.tobytes() == np.vstack([one, one]).tobytes()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"predictions": [{"a": 1}], "predictions": [{"a": 1}]}', "predictions"),
        ('{"predictions": 1, "predictions": [{"a": 1}]}', "predictions"),
        ('{"batch_id": "x", "predictions": [{"a": 1}], "batch_id": "x"}', "batch_id"),
        ('{"batch_id": null, "predictions": [{"a": 1}], "batch_id": null}', "batch_id"),
        ('{"predictions": [{"a": 1}], "batch_id": ":", "batch_id": "\\u003a"}', "batch_id"),
        ('{"batch_id": "", "batch_id": "\\u003a\\u003a", "predictions": [{"a": 1}]}', "batch_id"),
    ],
)
def test_repeated_fields_of_a_batch_are_refused(body: str, name: str) -> None:
    assert errors_of(CODEC.decode_batch, body.encode(), 9) == {name: TWICE}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"rows": [{"a": 1}], "rows": [{"a": 1}]}', "rows"),
        ('{"data": [[1, 2, true]], "data": [[1, 2, true]]}', "data"),
        ('{"columns": {"a": [1]}, "columns": {"a": [1]}}', "columns"),
        ('{"columns": {"a": [1], "a": [1]}}', "a"),
        ('{"columns": {"a": [1], "b\\u003ac": [1], "b:c": [1]}}', "b:c"),
        ('{"names": ["a"], "names": ["a"], "data": [[1]]}', "names"),
        ('{"names": ["a"], "data": [[1]], "names": ["a"]}', "names"),
        ('{"data": [[1]], "names": ["a"], "names": ["a"]}', "names"),
        ('{"data": [[1, 2]], "names": [":"], "names": ["a", "b\\u003ac"]}', "names"),
    ],
)
def test_repeated_fields_of_a_table_are_refused(body: str, name: str) -> None:
    assert errors_of(table_json.decode, body.encode(), FEATURES, 9) == {name: TWICE}


def test_tables_without_repeated_names_are_read() -> None:
    for body in (
        '{"columns": {"a": [1, 2], "b:c": [3, 4]}}',
        '{"columns": {"b\\u003ac": [3, 4], "a": [1, 2]}}',
        '{"data": [[3, 1], [4, 2]], "names": ["b:c", "a"]}',
        '{"names": ["b\\u003ac", "a"], "data": [[3, 1], [4, 2]]}',
        '{"rows": [{"b\\u003ac": 3, "a": 1}, {"a": 2, "b:c": 4}]}',
    ):
        rows = table_json.decode(body.encode(), FEATURES, 9)
        np.testing.assert_array_equal(rows[:, :2], [[1, 3], [2, 4]])


def test_a_repeated_unknown_name_is_reported_as_unknown() -> None:
    body = b'{"a": 1, "zip": 1, "zip": 2}'
    assert errors_of(CODEC.decode_row, body) == {"zip": "unknown field"}
    assert errors_of(table_json.decode, b'{"rows": [%b]}' % body, FEATURES, 9) == {"zip": "unknown field"}
    assert errors_of(table_json.decode, b'{"rows": [], "zip": 1, "zip": 1}', FEATURES, 9) == {"zip": "unknown field"}


def test_a_repeated_name_is_found_beside_a_left_out_optional_one() -> None:
    assert errors_of(OF_OPTIONAL.decode_row, b'{"a": 1, "a": 1}') == {"a": TWICE}
    assert OF_OPTIONAL.decode_row(b'{"a": 1}')[0].shape == (1, 2)
    assert errors_of(OF_COLON_FREE.decode_row, b'{"a": 1, "b": 2, "b": 3}') == {"b": TWICE}


def of_map(pairs: list[tuple[str, Any]], head: bytes | None = None) -> bytes:
    parts = [msgspec.msgpack.encode(part) for pair in pairs for part in pair]
    return (bytes([0x80 + len(pairs)]) if head is None else head) + b"".join(parts)


PAIRS: list[tuple[str, Any]] = [("shape", (1, 3)), ("dtype", "float64"), ("data", np.ones(3).tobytes())]
WITH_NAMES: list[tuple[str, Any]] = [*PAIRS, ("names", [feature.name for feature in FEATURES])]


@pytest.mark.parametrize("pairs", [PAIRS, WITH_NAMES, [*PAIRS, ("names", None)]])
def test_a_repeated_key_of_a_messagepack_map_is_refused(pairs: list[tuple[str, Any]]) -> None:
    heads = [None, b"\xde" + len(pairs).to_bytes(2), b"\xdf" + len(pairs).to_bytes(4)]
    for head in heads:
        assert msgpack.decode(of_map(pairs, head), FEATURES, 9).shape == (1, 3)
    for pair in pairs:
        for twice in ([*pairs, pair], [pair, *pairs]):
            count = len(twice)
            for head in (None, b"\xde" + count.to_bytes(2), b"\xdf" + count.to_bytes(4)):
                assert errors_of(msgpack.decode, of_map(twice, head), FEATURES, 9) == {pair[0]: TWICE}


def test_a_map_of_many_keys_is_refused_unread() -> None:
    pairs = PAIRS + [("dtype", "float64")] * 8
    assert errors_of(msgpack.decode, of_map(pairs), FEATURES, 9) == {"(body)": TWICE}


NAMES = st.sampled_from(['"a"', '"b:c"', '"\u00e9"', '"b\\u003ac"', '"\\u00e9"', '"\\u0061"'])
VALUES = {"a": ["1", "2.5"], "b:c": ["1", "null"], "\u00e9": ["true", "null"]}


@given(st.lists(st.lists(st.tuples(NAMES, st.integers(0, 1)), max_size=5), min_size=1, max_size=3))
def test_a_batch_and_single_rows_refuse_the_same_names(rows: list[list[tuple[str, int]]]) -> None:
    fields = [[f"{name}: {VALUES[json.loads(name)][which]}" for name, which in row] for row in rows]
    texts = ["{" + ", ".join(row) + "}" for row in fields]
    repeated = [len({json.loads(name) for name, _ in row}) < len(row) for row in rows]
    missing = ["a" not in {json.loads(name) for name, _ in row} for row in rows]
    body = body_of("predictions", texts)
    batch = CODEC.decode_batch(body, 9)
    assert [at in batch.errors for at in range(len(rows))] == [
        bad or absent for bad, absent in zip(repeated, missing, strict=True)
    ]
    for text, bad in zip(texts, repeated, strict=True):
        if bad:
            assert TWICE in errors_of(CODEC.decode_row, text.encode()).values()
