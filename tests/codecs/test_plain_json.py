"""Plain JSON is read by a kernel, and says just what the parsers of all JSON say."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs import table_json
from app.codecs.plain_json import COLUMNS, PlainRows
from app.codecs.row_json import JsonCodec
from app.codecs.rules import limits_of
from app.errors import InvalidInput, MalformedBody, TooLarge
from kernels.json_text import OPEN_LIST, OPEN_OBJECT
from tests.codecs.support import FEATURES, GOOD, NAMES, ROWS, cells, objects

LAYOUTS = {"predictions": OPEN_OBJECT, "rows": OPEN_OBJECT, "data": OPEN_LIST, "columns": COLUMNS}


class Others(msgspec.Struct, forbid_unknown_fields=True):
    batch_id: str | None = None
    names: list[str] | None = None


PLAIN = PlainRows(FEATURES, [limits_of(feature) for feature in FEATURES], LAYOUTS, Others)
CODEC = JsonCodec(FEATURES)
USUAL = GOOD[[0, 2]]
"""Rows without a subnormal number, which is not plain."""

BODIES: dict[str, Any] = {
    "predictions": {"predictions": objects(USUAL)},
    "rows": {"rows": objects(USUAL)},
    "data": {"data": [list(row.values()) for row in objects(USUAL)]},
    "columns": {"columns": cells(USUAL)},
}


def outcome(body: bytes, *, batch: bool) -> Any:
    """What a decoder makes of a body: rows and what else it says, or an error and its fields."""
    try:
        if batch:
            decoded = CODEC.decode_batch(body, ROWS)
            return decoded.rows.tobytes(), decoded.positions, decoded.errors, decoded.size, decoded.batch_id
        return table_json.decode(body, FEATURES, ROWS).tobytes()
    except InvalidInput as error:
        return type(error), str(error), error.errors
    except (MalformedBody, TooLarge) as error:
        return type(error), str(error)


def check_alike(body: bytes) -> None:
    batch = b'"predictions"' in body
    plain = outcome(body, batch=batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainRows, "read", lambda *_: None)
        assert outcome(body, batch=batch) == plain, body


@pytest.mark.parametrize("layout", BODIES)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_rows_as_clients_write_them_are_plain(layout: str, indent: int | None, kind: type) -> None:
    body = kind(json.dumps(BODIES[layout], indent=indent).encode())
    plain = PLAIN.read(body, ROWS)
    assert plain is not None
    assert plain.layout == layout
    assert plain.others == Others()
    assert plain.rows.tobytes() == USUAL.tobytes()
    check_alike(bytes(body))


@pytest.mark.parametrize("layout", BODIES)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("others", [{"names": [*NAMES]}, {"batch_id": "b"}, {"names": ["\u00e9"]}, {"batch_id": ""}])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_rows_with_a_name_or_names_before_or_behind_them_are_plain(
    layout: str, indent: int | None, others: dict[str, Any], kind: type
) -> None:
    for body in (BODIES[layout] | others, others | BODIES[layout]):
        text = kind(json.dumps(body, indent=indent, ensure_ascii=False).encode())
        plain = PLAIN.read(text, ROWS)
        assert plain is not None
        assert plain.others == Others(**others)
        assert plain.rows.tobytes() == USUAL.tobytes()
        check_alike(bytes(text))


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], NAMES[:-1], [*NAMES, "other"], [*NAMES[:-1], NAMES[0]], []])
def test_names_say_what_is_in_which_column(names: list[str]) -> None:
    for body in (BODIES["data"] | {"names": [*names]}, {"names": [*names]} | BODIES["data"]):
        check_alike(json.dumps(body).encode())


@pytest.mark.parametrize("layout", BODIES)
def test_the_rest_of_a_body_is_not_overlooked(layout: str) -> None:
    body = json.dumps(BODIES[layout])
    for rest in (
        "",
        "}}",
        "},",
        '}{"a":1}',
        ',"batch_id":"b"}',
        ',"names":["x"]}',
        ',"batch_id":"b","batch_id":"c"}',
        ',"batch_id":1}',
        ',"names":null}',
        ',"names":[1]}',
        ',"names":["x"],"data":[]}',
        ',"predictions":[]}',
        ",}",
        "} x",
        "]}",
    ):
        check_alike(body[:-1].encode() + rest.encode())
    for first in (
        '"batch_id":"[{"',
        '"batch_id":"\\n"',
        '"batch_id":1',
        '"names":["]"]',
        '"names":[]',
        '"data":["x"]',
        ",",
    ):
        check_alike(body.replace("{", "{" + first + ", ", 1).encode())
        check_alike((body.replace("{", "{" + first + ", ", 1)[:-1] + ',"names":["x"]}').encode())


def test_a_batch_with_an_id_keeps_it() -> None:
    body = json.dumps(BODIES["predictions"] | {"batch_id": "b"}).encode()
    assert CODEC.decode_batch(body, ROWS).batch_id == "b"


def test_more_rows_than_are_allowed_are_left_to_who_refuses_them() -> None:
    for layout, body in BODIES.items():
        text = json.dumps(body).encode()
        assert PLAIN.read(text, len(USUAL)) is not None, layout
        assert PLAIN.read(text, len(USUAL) - 1) is None, layout


@pytest.mark.parametrize("layout", BODIES)
def test_damaged_bodies_get_the_same_answer_as_without_the_kernel(layout: str) -> None:
    source = random.Random(layout)
    body = json.dumps(BODIES[layout]).encode()
    alphabet = b'{}[],:"0123456789.eE+-ntfu \n\\\x00\xc3\xa9'
    for _ in range(300):
        damaged = bytearray(body)
        for _ in range(source.randrange(1, 3)):
            at = source.randrange(len(damaged))
            match source.randrange(4):
                case 0:
                    del damaged[at : at + source.randrange(1, 9)]
                case 1:
                    damaged.insert(at, source.choice(alphabet))
                case 2:
                    damaged[at] = source.choice(alphabet)
                case _:
                    damaged[at:at] = damaged[at : at + source.randrange(1, 40)]
        check_alike(bytes(damaged))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 15), st.integers(), st.floats(), st.floats(0, 10), st.text(max_size=2)
)


@given(st.lists(st.dictionaries(st.sampled_from([*NAMES, "other"]), VALUES), max_size=4))
def test_rows_of_any_values_get_the_same_answer_as_without_the_kernel(rows: list[dict[str, Any]]) -> None:
    check_alike(json.dumps({"predictions": rows}).encode())
    check_alike(json.dumps({"rows": rows}).encode())
    check_alike(json.dumps({"data": [list(row.values()) for row in rows]}).encode())
    check_alike(json.dumps({"columns": {name: [row.get(name) for row in rows] for name in NAMES}}).encode())
