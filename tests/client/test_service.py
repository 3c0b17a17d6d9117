"""The client against a real service: every call, every kind of table, and the service's limits."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from madrone.client import AsyncClient, Client, FailedRow, KeyRefused, OtherVersion, Prediction, Refused, TooLarge
from tests.client.readme import examples
from tests.support import BY_PATH, Server, eventually, server_environ, version_by_path

KEY = "sesame"
MOST_ROWS, MOST_OF_A_BATCH, MOST_BYTES = 1000, 3, 40_000
LIMITS = {"MAX_BULK_ROWS": MOST_ROWS, "MAX_BATCH_SIZE": MOST_OF_A_BATCH, "MAX_BODY_BYTES": MOST_BYTES}

ARTIFACT = read_artifact(BUNDLED / "model")
VERSION = version_by_path()
NAMES = [feature.name for feature in ARTIFACT.features]


@pytest.fixture(scope="module")
def server(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("service")
    limits = {name: str(limit) for name, limit in LIMITS.items()}
    server = Server(server_environ(registry_dir, directory) | BY_PATH | limits | {"API_KEY": KEY}, directory)
    yield server.wait_ready()
    server.kill()


def test_a_model_is_called_by_its_name(server: Server) -> None:
    known = server_environ(Path(), Path()) | BY_PATH
    with Client(server.url, key=KEY, name=known["MODEL_NAME"]) as named, Client(server.url, key=KEY) as first:
        row = named.model().example
        assert named.ready()
        assert named.predict(row).prediction == first.predict(row).prediction
        (item,) = named.predict_batch([row])
        assert isinstance(item, Prediction)
        assert item.prediction == first.predict(row).prediction
    with Client(server.url, key=KEY, name="flats") as unknown:
        with pytest.raises(Refused, match="There is no model of this name"):
            unknown.model()
        assert not unknown.ready()
    for name in ("", "a/b"):
        with pytest.raises(ValueError, match="The name of the model"):
            Client(server.url, name=name)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, KEY) as client:
        yield client


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """float64[2500, 8], rows near the model's example: more than one request takes."""
    example = np.array([float(ARTIFACT.example[name]) for name in NAMES])  # type: ignore[index]
    return example * np.random.default_rng(7).uniform(0.99, 1.01, (2500, len(NAMES)))


@pytest.fixture(scope="module")
def expected(rows: np.ndarray) -> np.ndarray:
    return ARTIFACT.engine().predict(rows)


def test_a_row_is_predicted_with_what_was_asked_for(client: Client, rows: np.ndarray, expected: np.ndarray) -> None:
    row = dict(zip(NAMES, rows[0], strict=True))  # values of NumPy
    plain = client.predict(row)
    assert isinstance(plain, Prediction)
    assert (plain.prediction, plain.version, plain.warnings) == (expected[0], VERSION, [])
    assert plain.interval is not None
    assert plain.explanation is None
    assert client.predict(pd.Series(row)).interval == plain.interval
    wide, narrow = (client.predict(row, interval=level).interval for level in (0.9, 0.5))
    assert wide is not None
    assert narrow is not None
    assert wide.lower < narrow.lower < plain.prediction < narrow.upper < wide.upper
    explained = client.explain(row, top=2).explanation
    assert explained is not None
    assert len(explained.contributions) == 2
    assert explained == client.predict(row, explain=2).explanation
    assert client.predict(row, output="raw").raw_score == plain.prediction


def test_a_curve_tells_what_would_be_predicted(client: Client) -> None:
    example = client.model().example
    curve = client.curve(example, "MedInc", points=3)
    assert (curve.feature, len(curve.values), len(curve.predictions)) == ("MedInc", 3, 3)
    assert curve.at.prediction == client.predict(example).prediction


def test_the_model_and_its_features_are_described(client: Client) -> None:
    model = client.model()
    assert (model.version, model.feature_names, model.trees) == (VERSION, NAMES, ARTIFACT.forest.n_trees)
    assert client.ready() is True


def test_a_batch_beyond_the_limit_goes_in_parts_whose_bad_rows_fail_alone(
    client: Client, rows: np.ndarray, expected: np.ndarray
) -> None:
    given: list[dict[str, Any]] = [dict(zip(NAMES, row, strict=True)) for row in rows[: 2 * MOST_OF_A_BATCH + 1]]
    given[4]["MedInc"] = "much"
    answers = client.predict_batch(given)
    assert len(answers) == len(given)
    failed = answers.pop(4)
    assert isinstance(failed, FailedRow)
    assert (failed.index, [error.field for error in failed.errors]) == (4, ["MedInc"])
    good = [answer for answer in answers if isinstance(answer, Prediction)]
    assert [answer.prediction for answer in good] == np.delete(expected[: len(given)], 4).tolist()
    assert len({(answer.request_id, answer.row) for answer in good}) == len(good)
    assert client.predict_batch([]) == []


def kinds(rows: np.ndarray) -> dict[str, Any]:
    """The rows as a table of each kind."""
    frame = pd.DataFrame(rows, columns=NAMES, index=[f"house {index}" for index in range(len(rows))])
    table = pa.table(dict(zip(NAMES, rows.T, strict=True)))
    made = {
        "matrix": rows, "pandas": frame, "table": table, "batch": table.to_batches()[0],
        "dict": dict(zip(NAMES, rows.T.tolist(), strict=True)), "stream": table.to_reader(),
    }  # fmt: skip
    try:
        import polars
    except ImportError:
        return made
    return made | {"polars": polars.DataFrame(dict(zip(NAMES, rows.T, strict=True)))}


def columns_of(table: Any) -> dict[str, list[float]]:
    if isinstance(table, dict):
        return table
    if isinstance(table, pd.DataFrame):
        return table.to_dict("list")
    return (table if isinstance(table, pa.RecordBatch) else pa.table(table)).to_pydict()


@pytest.mark.parametrize("rows_given", [7, 2500])
def test_a_table_of_every_kind_is_answered_in_its_kind(
    client: Client, rows: np.ndarray, expected: np.ndarray, rows_given: int
) -> None:
    for kind, table in kinds(rows[:rows_given]).items():
        if kind == "matrix":
            assert np.array_equal(client.predict_table(table), expected[:rows_given])
            continue
        answer = client.predict_table(table, interval=0.9)
        assert type(answer) is (pa.Table if kind == "stream" else type(table)), kind
        columns = columns_of(answer)
        assert list(columns) == ["prediction", "lower", "upper"]
        assert columns["prediction"] == expected[:rows_given].tolist(), kind
        if kind == "pandas":
            assert answer.index.equals(table.index)


def test_a_table_is_explained_by_columns(client: Client, rows: np.ndarray) -> None:
    answer = client.predict_table(pd.DataFrame(rows[:3], columns=NAMES), explain=True)
    assert {"prediction", "base_value", "contribution:MedInc"} <= set(answer.columns)


def test_a_refused_table_names_the_column_and_the_row(client: Client, rows: np.ndarray) -> None:
    frame = pd.DataFrame(rows[:3], columns=NAMES)
    with pytest.raises(Refused) as caught:
        client.predict_table(frame.assign(id=range(3)))
    assert [error.field for error in caught.value.errors] == ["id"]
    assert "id: " in str(caught.value)
    assert (caught.value.status, caught.value.kind) == (422, "invalid-input")
    with pytest.raises(Refused, match="MedInc: "):
        client.predict_table(frame.assign(MedInc=[1.0, np.inf, 2.0]))


def test_a_row_larger_than_any_request_is_too_large(client: Client) -> None:
    with pytest.raises(TooLarge):
        client.predict_table({f"x{number}": [1.0] for number in range(1000)})


def test_every_fault_of_a_row_is_named(client: Client) -> None:
    with pytest.raises(Refused) as caught:
        client.predict({"MedInc": "much", "color": "blue"})
    faults = {error.field: error.message for error in caught.value.errors}
    assert {"MedInc", "color", "HouseAge"} <= faults.keys()
    assert all(f"{field}: {message}" in str(caught.value) for field, message in faults.items())
    assert caught.value.request_id


def test_only_the_version_that_is_asked_for_answers(client: Client, rows: np.ndarray) -> None:
    row = dict(zip(NAMES, rows[0], strict=True))
    assert client.predict(row, version=VERSION).version == VERSION
    for call in (lambda: client.predict(row, version="2"), lambda: client.predict_table(rows[:2], version="2")):
        with pytest.raises(OtherVersion, match=rf"Version {VERSION} of the model answered, not 2\."):
            call()


def test_a_wrong_key_is_refused_and_told_to_nobody(server: Server) -> None:
    for key in ("wrong-key", None):
        with Client(server.url, key) as client, pytest.raises(KeyRefused) as caught:
            client.predict({})
        assert caught.value.status == 401
        assert "wrong-key" not in f"{client!r} {caught.value} {caught.value!r}"


def test_outcomes_join_their_predictions(client: Client) -> None:
    example = client.model().example
    predictions = [answer for answer in client.predict_batch([example, example]) if isinstance(answer, Prediction)]

    def matched() -> bool:
        taken = client.send_outcomes([prediction.outcome(4.5) for prediction in predictions])
        return taken.matched + taken.duplicate == taken.total == 2

    eventually(matched)  # the log is written after the answer
    taken = client.send_outcomes([("no id!", 1.0), {"request_id": predictions[0].request_id, "actual": 4.5}])
    assert (taken.refused, taken.duplicate, taken.errors[0].index) == (1, 1, 0)


async def test_the_client_for_asyncio_gives_the_same(server: Server, rows: np.ndarray, expected: np.ndarray) -> None:
    row = dict(zip(NAMES, rows[0], strict=True))
    async with AsyncClient(server.url, KEY) as client:
        many = await asyncio.gather(*(client.predict(row) for _ in range(20)))
        assert {answer.prediction for answer in many} == {expected[0]}
        assert np.array_equal(await client.predict_table(rows), expected)
        assert len(await client.predict_batch([row] * 4)) == 4
        assert (await client.explain(row)).explanation is not None
        assert (await client.curve(row, "MedInc", points=2)).version == (await client.model()).version
        assert (await client.send_outcomes([many[0].outcome(1.0)])).total == 1
        assert await client.ready()
        with pytest.raises(Refused):
            await client.predict({})


def test_the_examples_of_the_page_run_and_print_what_it_shows(server: Server) -> None:
    for source, shown in examples():
        code = source.replace("http://localhost:8000", server.url).replace("my-key", KEY)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        assert done.stdout == shown.replace("-model 1 ", f"-model {VERSION} ")  # as a registry counts them
