"""The JSON schema of a row: it takes what the reader takes, and lists the categories."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.codecs.json_types import MAX_ENUM, json_schema
from app.codecs.row_json import JsonCodec
from app.errors import InvalidInput
from app.feature import Feature

FEATURES = (
    Feature(name="x", nullable=True),
    Feature(name="strict"),
    Feature(name="n", kind="integer", physical_range=(-(2.0**53), 2.0**53)),
    Feature(name="single", single=True, required=False, description="Half", unit="m", training_range=(0.1, 2.0)),
    Feature(name="color", kind="category", categories=("mauve", "teal"), unseen="refuse", description="Paint"),
    Feature(name="size", kind="category", categories=(1, 2.5)),
    Feature(name="mixed", kind="category", categories=("a", 1, True + 1)),
    Feature(name="none", kind="category", categories=()),
)
ROW: dict[str, Any] = {
    "x": 1, "strict": 2.5, "n": 3, "single": 0.5, "color": "teal", "size": 2.5, "mixed": "a", "none": None,
}  # fmt: skip
SCHEMA = json_schema(FEATURES)


def test_the_schema_is_valid_and_says_what_a_value_may_be() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    other = "Any other value counts as missing."
    assert SCHEMA["properties"] == {
        "x": {"type": ["number", "null"]},
        "strict": {"type": "number"},
        "n": {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
        "single": {"type": ["number", "null"], "description": "Half [m] Training saw 0.1 to 2."},
        "color": {"type": ["string", "null"], "enum": ["mauve", "teal", None], "description": "Paint"},
        "size": {"type": ["number", "null"], "enum": [1, 2.5, None], "description": other},
        "mixed": {"type": ["number", "string", "null"], "enum": ["a", 1, 2, None], "description": other},
        "none": {"type": ["number", "string", "null"], "enum": [None], "description": other},
    }
    assert SCHEMA["required"] == ["x", "strict", "n", "color", "size", "mixed", "none"]
    assert isinstance(SCHEMA["properties"]["n"]["minimum"], int)


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("x", None, True),
        ("strict", None, False),
        ("n", 2.0, True),
        ("n", 2.5, False),
        ("n", 2**53 + 1, False),
        ("n", None, False),
        ("color", None, True),
        ("color", "pink", False),
        ("color", 1, False),
        ("size", 1.0, True),
        ("mixed", 2, True),
    ],
)
def test_the_schema_takes_what_the_reader_takes(name: str, value: Any, taken: bool) -> None:
    row = ROW | {name: value}
    assert Draft202012Validator(SCHEMA).is_valid(row) == taken
    try:
        JsonCodec(FEATURES).decode_row(json.dumps(row).encode())
    except InvalidInput:
        assert not taken
    else:
        assert taken


@pytest.mark.parametrize("count", [MAX_ENUM, MAX_ENUM + 1])
def test_many_categories_are_described_and_not_listed(count: int) -> None:
    feature = Feature(name="c", kind="category", categories=tuple(f"c{index}" for index in range(count)))
    schema = json_schema((feature,))["properties"]["c"]
    if count == MAX_ENUM:
        assert schema["enum"] == [*(feature.categories or ()), None]
    else:
        assert schema == {
            "type": ["string", "null"],
            "description": "One of 1001 categories, such as 'c0', 'c1', 'c2'. Any other value counts as missing.",
        }
