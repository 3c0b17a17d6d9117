"""Missing values of a plain model, however its signature was made, in every format that has them."""

import io
import json
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.models import infer_signature

from app.codecs.formats import FORMATS
from app.codecs.json.row import JsonCodec
from app.errors import InvalidInput
from app.feature import Feature
from app.models.signature import join_features, signature_columns
from kernels.forest.layout import read_forest
from tests.codecs.support import ROWS, Array, arrow_stream, msgpack_map, npy_file

NAMES = ["a", "b"]


def rows() -> Array:
    random = np.random.default_rng(0)
    values = random.normal(size=(300, 2))
    values[random.random(values.shape) < 0.2] = np.nan
    return values


def trained(data: Any) -> lgb.Booster:
    return lgb.train({"verbose": -1, "min_data_in_leaf": 5}, lgb.Dataset(data, np.nansum(rows(), axis=1)), 5)


FRAME = pd.DataFrame(rows(), columns=NAMES)
SIGNED: dict[str, tuple[Any, Any]] = {
    "none": (FRAME, None),
    "of an array": (rows(), rows()),
    "without missing values": (FRAME, FRAME.dropna().head()),
    "with missing values": (FRAME, FRAME),
    "of numbered columns": (pd.DataFrame(rows()), pd.DataFrame(rows()).dropna()),
}
"""Training data, and the data that the signature is of."""


def features_of(booster: lgb.Booster, example: Any) -> tuple[Feature, ...]:
    columns = None if example is None else signature_columns({"inputs": infer_signature(example).to_dict()["inputs"]})
    return join_features(columns, None, read_forest(booster.model_to_string()))


def bodies(values: Array, names: list[str]) -> dict[str, tuple[str, bytes]]:
    """Media type and body of the values in each format and layout."""
    lists = [[None if np.isnan(value) else value for value in row] for row in values.tolist()]
    objects = [dict(zip(names, row, strict=True)) for row in lists]
    columns = {name: list(column) for name, column in zip(names, zip(*lists, strict=True), strict=True)}
    table = pa.table(columns)
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    lines = [names, *([("" if value is None else repr(value)) for value in row] for row in lists)]
    return {
        "rows": ("application/json", json.dumps({"rows": objects}).encode()),
        "columns": ("application/json", json.dumps({"columns": columns}).encode()),
        "data": ("application/json", json.dumps({"data": lists, "names": names}).encode()),
        "ndjson": ("application/x-ndjson", "\n".join(map(json.dumps, objects)).encode()),
        "csv": ("text/csv", "".join(",".join(line) + "\n" for line in lines).encode()),
        "csv with NaN": (
            "text/csv", "".join(",".join(cell or "NaN" for cell in line) + "\n" for line in lines).encode()
        ),
        "npy": ("application/x-npy", npy_file(values)),
        "msgpack": ("application/msgpack", msgpack_map(values, names=names)),
        "arrow": ("application/vnd.apache.arrow.stream", arrow_stream(table)),
        "arrow with NaN": (
            "application/vnd.apache.arrow.stream", arrow_stream(pa.table(dict(zip(names, values.T, strict=True))))
        ),
        "parquet": ("application/vnd.apache.parquet", parquet.getvalue()),
    }  # fmt: skip


@pytest.mark.parametrize("signed", SIGNED)
def test_missing_values_are_answered_as_by_lightgbm(signed: str) -> None:
    data, example = SIGNED[signed]
    booster = trained(data)
    features = features_of(booster, example)
    names, expected = [feature.name for feature in features], booster.predict(rows())
    assert len(np.unique(expected)) > 10
    for name, (media_type, body) in bodies(rows(), names).items():
        decoded = FORMATS[media_type].decode(body, features, ROWS)
        np.testing.assert_array_equal(booster.predict(decoded), expected, name)
    codec = JsonCodec(features)
    for row, prediction in list(zip(rows().tolist(), np.asarray(expected).tolist(), strict=True))[:20]:
        body = json.dumps({
            name: None if np.isnan(value) else value for name, value in zip(names, row, strict=True)
        }).encode()  # fmt: skip
        assert np.asarray(booster.predict(codec.decode_row(body)[0])).tolist() == [prediction]
        batch = codec.decode_batch(b'{"predictions": [%b]}' % body, 1)
        np.testing.assert_array_equal(batch.rows, codec.decode_row(body)[0])


def test_a_column_of_nothing_but_missing_values_is_read() -> None:
    booster = trained(FRAME)
    features, values = features_of(booster, None), np.column_stack([np.ones(3), np.full(3, np.nan)])
    for name, (media_type, body) in bodies(values, NAMES).items():
        np.testing.assert_array_equal(FORMATS[media_type].decode(body, features, ROWS), values, name)


@pytest.mark.parametrize("signed", ["none", "without missing values"])
def test_an_absent_field_is_a_fault_unless_it_is_optional(signed: str) -> None:
    data, example = SIGNED[signed]
    features = features_of(trained(data), example)
    values = np.arange(300.0).reshape(-1, 1)
    given = bodies(values, ["a"])
    del given["npy"]
    for name, (media_type, body) in given.items():
        with pytest.raises(InvalidInput) as caught:
            FORMATS[media_type].decode(body, features, ROWS)
        assert [(error.field, error.message) for error in caught.value.errors] == [("b", "is missing")], name
    # MLflow calls a column with missing values in the example optional.
    optional = features_of(trained(FRAME), FRAME)
    for name, (media_type, body) in given.items():
        decoded = FORMATS[media_type].decode(body, optional, ROWS)
        np.testing.assert_array_equal(decoded, np.column_stack([values, np.full(300, np.nan)]), name)
