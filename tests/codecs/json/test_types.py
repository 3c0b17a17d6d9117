"""The JSON schema of a row: it takes what the reader takes, and lists the categories."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.codecs.json.row import JsonCodec
from app.codecs.json.types import MAX_ENUM, json_schema
from app.errors import InvalidInput
from app.feature import Feature

FEATURES = (
    Feature(name="x", nullable=True),
    Feature(name="strict"),
    Feature(name="n", kind="integer", physical_range=(-(2.0**53), 2.0**53)),
    Feature(name="single", single=True, required=False, description="Half", unit="m", training_range=(0.1, 2.0)),
    Feature(name="high", physical_range=(1.0, 9.0)),
    Feature(name="higher", physical_range=(2.0, 9.0)),
    Feature(name="old", kind="integer", physical_range=(1.0, 9.0)),
    Feature(name="older", kind="integer", physical_range=(2.0, 9.0)),
    Feature(name="flag", kind="boolean"),
    Feature(name="color", kind="category", categories=("mauve", "teal"), unseen="refuse", description="Paint"),
    Feature(name="size", kind="category", categories=(1, 2.5)),
    Feature(name="mixed", kind="category", categories=("a", 1, True + 1)),
    Feature(name="none", kind="category", categories=()),
)
ROW: dict[str, Any] = {
    "x": 1, "strict": 2.5, "n": 3, "single": 0.5, "high": 2, "higher": 2, "old": 2, "older": 2, "flag": 1,
    "color": "teal", "size": 2.5, "mixed": "a", "none": None,
}  # fmt: skip
SCHEMA = json_schema(FEATURES)


def test_the_schema_is_valid_and_says_what_a_value_may_be() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    other = "Any other value counts as missing."
    number, most = ["number", "boolean", "null"], 3.4028235677973362e38
    anything = ["boolean", "number", "string", "null"]
    assert SCHEMA["properties"] == {
        "x": {"type": number},
        "strict": {"type": ["number", "boolean"]},
        "n": {"type": ["integer", "boolean"], "minimum": -(2**53), "maximum": 2**53},
        "single": {
            "type": number, "minimum": -most, "maximum": most, "description": "Half [m] Training saw 0.1 to 2.",
        },
        "high": {"type": ["number", "boolean"], "not": {"const": False}, "minimum": 1, "maximum": 9},
        "higher": {"type": "number", "minimum": 2, "maximum": 9},
        "old": {"type": ["integer", "boolean"], "not": {"const": False}, "minimum": 1, "maximum": 9},
        "older": {"type": "integer", "minimum": 2, "maximum": 9},
        "flag": {"type": ["boolean", "number"], "enum": [False, True, 0, 1]},
        "color": {"type": ["string", "null"], "enum": ["mauve", "teal", None], "description": "Paint"},
        "size": {
            "type": ["boolean", "number", "null"], "anyOf": [{"enum": [1, 2.5, None]}, {}], "description": other,
        },
        "mixed": {"type": anything, "anyOf": [{"enum": ["a", 1, 2, None]}, {}], "description": other},
        "none": {"type": anything, "anyOf": [{"enum": [None]}, {}], "description": other},
    }  # fmt: skip
    assert SCHEMA["required"] == [
        "x",
        "strict",
        "n",
        "high",
        "higher",
        "old",
        "older",
        "flag",
        "color",
        "size",
        "mixed",
        "none",
    ]
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
        ("n", True, True),
        ("strict", False, True),
        ("single", 3.5e38, False),
        ("single", 3.4e38, True),
        ("high", True, True),
        ("high", False, False),
        ("higher", True, False),
        ("old", False, False),
        ("old", True, True),
        ("older", True, False),
        ("flag", False, True),
        ("flag", 1.0, True),
        ("flag", 2, False),
        ("flag", "true", False),
        ("size", True, True),
        ("size", 7, True),
        ("size", "7", False),
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
        assert schema["anyOf"][0]["enum"] == [*(feature.categories or ()), None]
    else:
        assert schema == {
            "type": ["string", "null"],
            "description": "One of 1001 categories, such as 'c0', 'c1', 'c2'. Any other value counts as missing.",
        }
