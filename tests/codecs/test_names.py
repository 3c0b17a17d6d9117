"""Any text is a feature's name, in every format."""

import csv
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from app.codecs.formats import FORMATS
from app.codecs.json.row import JsonCodec
from app.errors import InvalidInput
from app.feature import Feature
from tests.codecs.support import ROWS, arrow_stream, msgpack_map, npy_file, parquet_file

NAMES = (
    "a b", " lead", "trail ", "\ttab", "a\x00b", "\x01", "\x1f", "\x7f", "a\u2028b", "\x85", "\x0b", "é", "日本",
    "a'b", 'a"b', "a:b", "a,b", "{}[]", "a\nb", "a\\b", "\\n", "\\u0061", "", "  ", "=1+1", "#x", "x" * 3000,
    "\U0001f600", "e\u0301", "__init__", "f0", "1", "nan", "true", "null", "?????0",
)  # fmt: skip
VALUES = np.array([[1.0, np.nan], [-2.5, 3.0]])
LISTS: list[list[Any]] = [[1.0, None], [-2.5, 3.0]]


def bodies(names: list[str]) -> dict[str, tuple[str, bytes]]:
    """Media type and body of VALUES in each format and layout."""
    objects = [dict(zip(names, row, strict=True)) for row in LISTS]
    table = pa.Table.from_arrays([pa.array(column) for column in zip(*LISTS, strict=True)], names)
    lines = io.StringIO()
    csv.writer(lines).writerows([names, *(["" if value is None else value for value in row] for row in LISTS)])
    columns = {name: [row[place] for row in LISTS] for place, name in enumerate(names)}
    return {
        "rows": ("application/json", json.dumps({"rows": objects}).encode()),
        "not ASCII": ("application/json", json.dumps({"rows": objects}, ensure_ascii=False).encode()),
        "columns": ("application/json", json.dumps({"columns": columns}).encode()),
        "data": ("application/json", json.dumps({"data": LISTS, "names": names}).encode()),
        "ndjson": ("application/x-ndjson", "\n".join(map(json.dumps, objects)).encode()),
        "csv": ("text/csv", lines.getvalue().encode()),
        "csv by pandas": ("text/csv", pd.DataFrame(VALUES, columns=names).to_csv(index=False).encode()),
        "npy": ("application/x-npy", npy_file(VALUES)),
        "msgpack": ("application/msgpack", msgpack_map(VALUES, names=names)),
        "arrow": ("application/vnd.apache.arrow.stream", arrow_stream(table)),
        "parquet": ("application/vnd.apache.parquet", parquet_file(table)),
    }


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_text_is_a_name_in_every_format(name: str, required: bool) -> None:
    features = (Feature(name=name, required=required), Feature(name="other", nullable=True))
    given = bodies([name, "other"])
    for label, (media_type, body) in given.items():
        np.testing.assert_array_equal(FORMATS[media_type].decode(body, features, ROWS), VALUES, label)
    codec = JsonCodec(features)
    row = json.dumps({name: 1, "other": None}).encode()
    np.testing.assert_array_equal(codec.decode_row(row)[0], VALUES[:1])
    batch = codec.decode_batch(b'{"predictions": [%b, %b], "batch_id": "b"}' % (row, row), 2)
    np.testing.assert_array_equal(batch.rows, VALUES[[0, 0]])
    assert batch.batch_id == "b"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "\x01", "a:\tb"], ids=ascii)
def test_faults_of_names_that_json_escapes_are_named(name: str) -> None:
    features = (Feature(name=name), Feature(name="other", required=False))
    codec, text = JsonCodec(features), json.dumps(name)
    for body, expected in (
        ("{}", {name: "is missing"}),
        (f'{{{text}: "1"}}', {name: "must be a number, not text"}),
        (f"{{{text}: 1, {text}: 1}}", {name: "appears more than once"}),
        (f'{{{text}: 1, "?????0": 1}}', {"?????0": "unknown field"}),
        (f'{{{text}: 1, "f0": 1}}', {"f0": "unknown field"}),
    ):
        with pytest.raises(InvalidInput) as caught:
            codec.decode_row(body.encode())
        assert {error.field: error.message for error in caught.value.errors} == expected
        with pytest.raises(InvalidInput) as caught:
            FORMATS["application/json"].decode(f'{{"rows": [{body}]}}'.encode(), features, ROWS)
        assert [error.field for error in caught.value.errors] == list(expected)
    optional = JsonCodec((Feature(name=name, required=False),))
    assert np.isnan(optional.decode_row(b"{}")[0]).all()
    unlike = "?" * (len(name) + 1) + "0"
    for body in (b'{"%b": 1}', b'{"%b": null}'):
        with pytest.raises(InvalidInput):
            optional.decode_row(body % unlike.encode())
