"""A booster trained on pandas categories, asked by the categories' own values in every format that can carry them."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from app.config.settings import Settings
from tests.codecs.support import arrow_stream, msgpack_map, npy_file, parquet_file
from tests.models.colors import COLORS, SIZES, Trained, trained_on
from tests.routes.support import Client, client_of, served_by
from tests.support import problem


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_on(tmp_path_factory.mktemp("categories") / "model")


def settings_of(directory: Path, tmp_path: Path, **changes: Any) -> Settings:
    given = {"data_dir": tmp_path / "data", "model_path": str(directory), "max_batch_size": 10_000} | changes
    return Settings(**given)


@pytest.fixture
async def colors(trained: Trained, registry_dir: Path, tmp_path: Path) -> AsyncIterator[Client]:
    async with client_of(settings_of(trained.directory, tmp_path)) as client:
        yield client


def expected(trained: Trained) -> list[float]:
    return trained.booster.predict(trained.asked).tolist()


def values(asked: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns of the categories' own values, None where one is missing."""
    return {
        name: [None if pd.isna(value) else value for value in column.astype(object).tolist()]
        for name, column in asked.items()
    }


def objects(asked: pd.DataFrame) -> list[dict[str, Any]]:
    columns = values(asked)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def csv_table(asked: pd.DataFrame) -> bytes:
    lines = ["color,income,size,flag"]
    for row in objects(asked):
        color = "" if row["color"] is None else '"' + row["color"].replace('"', '""') + '"'
        others = ["" if row[name] is None else repr(row[name]) for name in ("income", "size", "flag")]
        lines.append(",".join([color, *others]))
    return "\n".join(lines).encode()


def plain_table(asked: pd.DataFrame) -> pa.Table:
    return pa.table({name: pa.array(column) for name, column in values(asked).items()})


def mixed_map(asked: pd.DataFrame) -> bytes:
    columns = values(asked)
    numbers = np.array([columns["income"], columns["size"]], np.float64).T.copy()
    lists = {name: columns[name] for name in ("flag", "color")}
    return msgpack_map(numbers, names=["income", "size"], columns=lists)


BODIES: dict[str, tuple[str, Callable[[pd.DataFrame], bytes]]] = {
    "JSON rows": ("application/json", lambda asked: msgspec.json.encode({"rows": objects(asked)})),
    "JSON columns": ("application/json", lambda asked: msgspec.json.encode({"columns": values(asked)})),
    "NDJSON": ("application/x-ndjson", lambda asked: b"\n".join(map(msgspec.json.encode, objects(asked)))),
    "CSV": ("text/csv", csv_table),
    "Arrow of pandas": (
        "application/vnd.apache.arrow.stream",
        lambda asked: arrow_stream(pa.Table.from_pandas(asked, preserve_index=False), 1000),
    ),
    "Arrow": ("application/vnd.apache.arrow.stream", lambda asked: arrow_stream(plain_table(asked), 1000)),
    "Parquet of pandas": (
        "application/vnd.apache.parquet",
        lambda asked: parquet_file(pa.Table.from_pandas(asked, preserve_index=False)),
    ),
    "Parquet": ("application/vnd.apache.parquet", lambda asked: parquet_file(plain_table(asked), row_group_size=700)),
    "MessagePack": ("application/msgpack", mixed_map),
}


async def test_predictions_are_those_of_lightgbm_bit_for_bit(trained: Trained, colors: Client) -> None:
    wanted = expected(trained)
    for kind, (media_type, make) in BODIES.items():
        headers = {"Content-Type": media_type, "Accept": "application/json"}
        response = await colors.post("/predict/bulk", content=make(trained.asked), headers=headers)
        assert response.status_code == 200, response.text
        assert response.json()["columns"]["prediction"] == wanted, kind


async def test_single_rows_and_batches_are_predicted_alike(trained: Trained, colors: Client) -> None:
    rows, wanted = objects(trained.asked), expected(trained)
    batch = await colors.post("/predict/batch", json={"predictions": rows[:500]})
    assert [item["prediction"] for item in batch.json()["predictions"]] == wanted[:500]
    for row, prediction in zip(rows[:100], wanted[:100], strict=True):
        answer = (await colors.post("/predict", json=row)).json()
        assert answer["prediction"] == prediction
        assert len(answer["warnings"]) == (row["color"] in ("mauve", "Red")) + (row["size"] in (40, 0))


async def test_the_models_info_has_the_categories_and_an_example(trained: Trained, colors: Client) -> None:
    info = (await colors.get("/predict/model/info")).json()
    features = {feature["name"]: feature for feature in info["features"]}
    assert features["color"]["categories"] == COLORS
    assert features["size"]["categories"] == SIZES
    assert features["flag"]["categories"] == [False, True]
    assert {feature["type"] for name, feature in features.items() if name != "income"} == {"category"}
    assert info["example"]["color"] in COLORS
    assert (await colors.post("/predict", json=info["example"])).status_code == 200
    served = served_by(colors)
    [row] = served.artifact.sample().tolist()
    assert COLORS[int(row[0])] == info["example"]["color"]
    assert SIZES[int(row[2])] == info["example"]["size"]


async def test_the_log_has_values_and_never_an_unseen_one(trained: Trained, colors: Client, tmp_path: Path) -> None:
    row = {"color": "line\nend", "income": 0.5, "size": 10, "flag": True}
    rows = [row, row | {"color": "mauve", "size": None}, row | {"size": 10.0, "flag": 1, "income": None}]
    assert (await colors.post("/predict/batch", json={"predictions": rows})).status_code == 200
    log = colors.app.services.prediction_log
    assert log.flush()
    with sqlite3.connect(colors.app.services.settings.data_dir / "predictions.db") as database:
        logged = [msgspec.json.decode(text) for (text,) in database.execute("SELECT features FROM predictions")]
    assert logged == [row, row | {"color": None, "size": None}, row | {"income": None}]


async def test_an_npy_file_is_refused_with_the_formats_that_can_hold_text(colors: Client) -> None:
    response = await colors.post(
        "/predict/bulk", content=npy_file(np.zeros((1, 4))), headers={"Content-Type": "application/x-npy"}
    )
    assert response.status_code == 415
    assert problem(response)["detail"] == (
        "An .npy file holds numbers alone, and the model has columns of text: color. "
        "Send JSON, NDJSON, CSV, MessagePack, Arrow or Parquet."
    )


async def test_unseen_values_are_refused_by_the_setting(trained: Trained, registry_dir: Path, tmp_path: Path) -> None:
    settings = settings_of(trained.directory, tmp_path, model_unseen_categories="refuse")
    color = "is none of the model's categories"
    async with client_of(settings) as client:
        unseen = trained.asked["color"].isin(["mauve", "Red"]).tolist()
        seen = trained.asked[~np.array(unseen) & ~trained.asked["size"].isin([40, 0])]
        for media_type, make in BODIES.values():
            headers = {"Content-Type": media_type, "Accept": "application/json"}
            response = await client.post("/predict/bulk", content=make(seen), headers=headers)
            assert response.json()["columns"]["prediction"] == trained.booster.predict(seen).tolist()
            response = await client.post("/predict/bulk", content=make(trained.asked), headers=headers)
            assert response.status_code == 422
            errors = {error["field"]: error["message"] for error in response.json()["errors"]}
            assert errors["color"] == f"{color} ({sum(unseen)} rows, the first is row {unseen.index(True)})"
            assert "mauve" not in response.text
        row = objects(seen)[0]
        alone = await client.post("/predict", json=row | {"color": "mauve"})
        assert (alone.status_code, alone.json()["errors"]) == (422, [{"field": "color", "message": color}])
        batch = await client.post("/predict/batch", json={"predictions": [row, row | {"size": 11}]})
        assert [item["status"] for item in batch.json()["predictions"]] == ["predicted", "failed"]
