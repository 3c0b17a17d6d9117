"""One rule for a value: every kind of feature with every kind of JSON value, alone, in a batch and in each table."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from app.codecs.json import ndjson
from app.codecs.json import table as table_json
from app.codecs.json.row import JsonCodec
from app.codecs.rules import broken_rule, limits_of, number_of
from app.errors import InvalidInput, MalformedBody
from app.feature import Feature

KINDS = {
    "number": Feature(name="v"),
    "nullable": Feature(name="v", nullable=True),
    "ranged": Feature(name="v", physical_range=(0.0, 1.0)),
    "single": Feature(name="v", single=True, nullable=True),
    "integer": Feature(name="v", kind="integer"),
    "small integer": Feature(name="v", kind="integer", physical_range=(-2.0, 2.5)),
    "integer of float32": Feature(name="v", kind="integer", single=True),
    "boolean": Feature(name="v", kind="boolean"),
    "text": Feature(name="v", kind="category", categories=("a", "1", "true")),
    "text, refusing": Feature(name="v", kind="category", categories=("a", "1", "true"), unseen="refuse"),
    "numbers": Feature(name="v", kind="category", categories=(1, 2.5, 2**53 + 1)),
    "numbers, refusing": Feature(name="v", kind="category", categories=(1, 2.5), unseen="refuse"),
    "mixed": Feature(name="v", kind="category", categories=("a", 1)),
    "none": Feature(name="v", kind="category", categories=()),
}
KINDS |= {f"optional {name}": msgspec.structs.replace(feature, required=False) for name, feature in KINDS.items()}
VALUES = (
    "null", "true", "false", "0", "1", "2", "-3", "0.5", "1.0", "2.5", "-0.0", "1e0", "1e39", "3.4028235e38", "1e308",
    "1e400", "-1e400", "NaN", "Infinity", "16777217", "9007199254740992", "9007199254740993", "-9007199254740993",
    "9007199254740994.0", "9223372036854775808", "18446744073709551616", "1" + "0" * 400, '"a"', '"1"', '"true"',
    '"b:c"', '""', '"\\u0061"', '"\\ud800"', "[]", "{}", "[1]",
)  # fmt: skip
"""Values as JSON."""

Outcome = str | float | None
"""Rule that is broken, the number, or None where the body is not JSON."""


def expected(feature: Feature, text: str) -> Outcome:
    value = json.loads(text)
    rule = broken_rule(feature, value, limits_of(feature))
    if rule is None and isinstance(value, str) and "\ud800" in value:
        return None
    return number_of(feature, value) if rule is None else rule


def outcome(read: Callable[[], Any]) -> float | tuple[str, ...] | None:
    """Number that is read, or messages without what they tell of a single row."""
    try:
        return float(read())
    except MalformedBody:
        return None
    except InvalidInput as error:
        return tuple(found.message.partition(", not ")[0].partition(" (row")[0] for found in error.errors)


def in_batch(codec: JsonCodec, body: bytes, place: int) -> Any:
    batch = codec.decode_batch(body, 9)
    if place in batch.errors:
        raise InvalidInput("", batch.errors[place])
    return batch.rows[batch.positions.index(place), 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_has_one_outcome_in_every_reader_of_json(kind: str) -> None:
    feature = KINDS[kind]
    features = (feature, Feature(name="w", nullable=True))
    codec = JsonCodec(features)
    seen: set[str] = set()
    for text in VALUES:
        row = f'{{"v": {text}, "w": 1}}'
        readers: dict[str, Callable[[], Any]] = {
            "row": lambda row=row: codec.decode_row(row.encode())[0][0, 0],
            "batch": lambda row=row: in_batch(codec, f'{{"predictions": [{row}]}}'.encode(), 0),
            "batch beside a bad row": lambda row=row: in_batch(codec, f'{{"predictions": [1, {row}]}}'.encode(), 1),
            "ndjson": lambda row=row: ndjson.decode(row.encode(), features, 9)[0, 0],
        }
        for layout, table in {
            "rows": f'{{"rows": [{row}]}}',
            "columns": f'{{"columns": {{"v": [{text}], "w": [1]}}}}',
            "data": f'{{"data": [[{text}, 1]]}}',
            "data in another order": f'{{"data": [[1, {text}]], "names": ["w", "v"]}}',
        }.items():
            readers[layout] = lambda table=table: table_json.decode(table.encode(), features, 9)[0, 0]
        found = {name: outcome(read) for name, read in readers.items()}
        rule = expected(feature, text)
        seen.add("number" if isinstance(rule, float) else str(rule))
        for name, one in found.items():
            if name == "batch beside a bad row" and rule is None:
                continue  # a batch with a failed row is not checked as a whole
            if isinstance(rule, float):
                # Tables are rounded by the builder, and rows by the codec: to the same bits.
                np.testing.assert_array_equal(one, rule, f"{name} {text}")
            else:
                assert (one is None) == (rule is None), (name, text, one)
                assert isinstance(one, tuple) or rule is None, (name, text, one)
                assert one == found["row"], (name, text)
    assert {"number", "kind"} <= seen
