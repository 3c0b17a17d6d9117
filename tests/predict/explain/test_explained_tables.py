"""Contributions and leaves as the columns of tables, in every format."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.codecs.arrays import msgpack, npy
from app.codecs.columns import arrow, parquet
from app.codecs.columns import csv as csv_format
from app.codecs.json import ndjson
from app.codecs.json import table as table_json
from app.models.served import ServedModel
from tests.models.support import NAMES, numbers, save_booster, serve, tiny_booster, tiny_rows
from tests.routes.support import ARROW, Array, Client, Row, put, services_of, stream_of, varied

FORMATS = tuple(module.MEDIA_TYPE for module in (table_json, ndjson, csv_format, npy, msgpack, arrow, parquet))

ODD = ("in, come", 'a "room"', "age")
"""Names that CSV must quote, and JSON must escape."""

Columns = dict[str, list[Any]]


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


def columns_of(content: bytes, media_type: str, names: list[str]) -> Columns:
    """The columns of an answer; those of a .npy file have no names."""
    if media_type == table_json.MEDIA_TYPE:
        return msgspec.json.decode(content)["columns"]
    if media_type == ndjson.MEDIA_TYPE:
        rows = [msgspec.json.decode(line) for line in content.splitlines()]
        return {name: [row[name] for row in rows] for name in rows[0]}
    if media_type == csv_format.MEDIA_TYPE:
        header, *lines = csv.reader(io.StringIO(content.decode(), newline=""))
        return {name: [float(line[place]) for line in lines] for place, name in enumerate(header)}
    if media_type == npy.MEDIA_TYPE:
        matrix = np.load(io.BytesIO(content))
        return dict(zip(names, matrix.T.tolist(), strict=True))
    if media_type == msgpack.MEDIA_TYPE:
        answer = msgspec.msgpack.decode(content)
        matrix = np.frombuffer(answer["data"], answer["dtype"]).reshape(answer["shape"])
        return dict(zip(answer["names"], matrix.T.tolist(), strict=True))
    if media_type == parquet.MEDIA_TYPE:
        return pq.read_table(io.BytesIO(content)).to_pydict()
    return pa.ipc.open_stream(content).read_all().to_pydict()


async def table(client: Client, rows: Array, names: Any, query: str, media_type: str = arrow.MEDIA_TYPE) -> bytes:
    headers = ARROW | {"Accept": media_type}
    response = await client.post(f"/predict/bulk?{query}", content=stream_of(rows, names), headers=headers)
    assert response.status_code == 200, response.text
    return response.content


@pytest.fixture
def odd(tmp_path: Path) -> tuple[lgb.Booster, ServedModel]:
    """A model of three classes, whose signature has names that formats must escape."""
    names = [re.sub(r"\W+", "_", name) for name in ODD]
    booster = tiny_booster(tiny_rows()[:, 2] % 3, objective="multiclass", num_class=3, feature_name=names)
    directory = save_booster(booster, tmp_path / "model", signature=numbers(*ODD), input_example=None)
    return booster, serve(directory)


async def test_every_format_holds_contributions_and_leaves(
    client: Client, odd: tuple[lgb.Booster, ServedModel]
) -> None:
    booster, served = odd
    put(client, served)
    rows, names = tiny_rows(), [feature.name for feature in served.artifact.features]
    contributions = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1)).reshape(len(rows), 3, -1)
    expected: Columns = {f"prediction_{k}": column for k, column in enumerate(booster.predict(rows).T.tolist())}
    expected |= {f"raw_score_{k}": column for k, column in enumerate(booster.predict(rows, raw_score=True).T.tolist())}
    expected |= {f"base_value_{k}": contributions[:, k, -1].tolist() for k in range(3)}
    expected |= {
        f"contribution_{k}:{name}": contributions[:, k, place].tolist()
        for k in range(3)
        for place, name in enumerate(names)
    }
    leaves = np.asarray(booster.predict(rows, pred_leaf=True, num_threads=1))
    expected |= {f"leaf_{tree}": leaves[:, tree].tolist() for tree in range(leaves.shape[1])}
    for media_type in FORMATS:
        content = await table(client, rows, names, "explain=true&leaves=true", media_type)
        found = columns_of(content, media_type, list(expected))
        assert list(found) == list(expected), media_type
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=f"{media_type} {name}")
        if media_type not in (npy.MEDIA_TYPE, msgpack.MEDIA_TYPE, csv_format.MEDIA_TYPE):
            assert {type(value) for value in found["leaf_0"]} == {int}


async def test_a_table_has_the_contributions_of_single_rows(client: Client, example: Row) -> None:
    rows = varied(example, 30)
    found = pa.ipc.open_stream(await table(client, rows, example, "explain=true&interval=0.9")).read_all().to_pydict()
    groups = [name.removeprefix("contribution:") for name in found if name.startswith("contribution:")]
    assert [name for name in found if not name.startswith("contribution:")] == [
        "prediction", "lower", "upper", "raw_score", "base_value",
    ]  # fmt: skip
    assert "place" in groups
    for place in (0, 29):
        row = dict(zip(example, rows[place].tolist(), strict=True))
        alone = (await client.post("/predict/explain", json=row)).json()["explanation"]
        for item in alone["contributions"]:
            assert found[f"contribution:{item['feature']}"][place] == pytest.approx(item["contribution"], abs=1e-9)
    sums = np.array(found["base_value"]) + sum(np.array(found[f"contribution:{name}"]) for name in groups)
    np.testing.assert_allclose(sums, found["raw_score"], atol=1e-9)
    assert "raw_score" not in pa.ipc.open_stream(await table(client, rows, example, "explain=false")).schema.names


async def test_an_empty_table_has_the_columns(client: Client, tmp_path: Path) -> None:
    put(client, serve(save_booster(tiny_booster(), tmp_path / "model")))
    empty = np.empty((0, 3))
    contents = {name: await table(client, empty, NAMES, "explain=true&leaves=true", name) for name in FORMATS}
    expected = [
        "prediction", "raw_score", "base_value", *(f"contribution:{name}" for name in NAMES), "leaf_0", "leaf_1",
        "leaf_2",
    ]  # fmt: skip
    assert pa.ipc.open_stream(contents[arrow.MEDIA_TYPE]).schema.names == expected
    assert contents[csv_format.MEDIA_TYPE].decode() == ",".join(expected) + "\n"
    assert np.load(io.BytesIO(contents[npy.MEDIA_TYPE])).shape == (0, len(expected))


async def test_a_long_table_is_explained_part_by_part(client: Client, tmp_path: Path) -> None:
    booster = tiny_booster()
    put(client, serve(save_booster(booster, tmp_path / "model")))
    rows = np.random.default_rng(0).normal(size=(70_000, 3))
    found = pa.ipc.open_stream(await table(client, rows, NAMES, "explain=true")).read_all()
    expected = np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))
    own = np.column_stack([*(found[f"contribution:{name}"] for name in NAMES), found["base_value"]])
    np.testing.assert_allclose(own, expected, atol=1e-9)
    assert services_of(client).admission.rows() == {"held": 0, "queued": 0}
