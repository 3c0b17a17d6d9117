"""`madrone.udf`: Arrow in, Arrow out, by an object that holds no model."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import madrone
from app.address import AddressError
from app.config.settings import Settings
from app.models.registry.source import NothingToServe
from app.score.options import ScoreRefused
from app.udf import function
from tests.models.support import MODEL, Catalogue


def test_a_table_gives_a_table_and_a_batch_a_batch(model: str, rows: pa.Table, expected: NDArray[np.float64]) -> None:
    score = madrone.udf(model)
    table = score(rows)
    assert table.schema.names == ["id", "prediction"]
    np.testing.assert_array_equal(table["prediction"], expected)
    (batch,) = rows.to_batches()
    assert isinstance(score(batch), pa.RecordBatch)
    assert score(batch).equals(table.to_batches()[0])
    chunked = pa.concat_tables([rows[:20], rows[20:]])
    assert score(chunked).equals(table)
    assert list(score.batches([batch, batch]))[1].equals(table.to_batches()[0])


def test_rows_are_scored_a_part_at_a_time(
    model: str, rows: pa.Table, expected: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function, "BATCH_ROWS", 7)
    scored = madrone.udf(model)(rows)
    assert scored["prediction"].num_chunks == 8
    assert madrone.udf(model, threads=3)(rows).equals(scored)
    np.testing.assert_array_equal(scored["prediction"], expected)
    ages = rows["age"].to_pylist()
    bad = rows.set_column(rows.schema.get_field_index("age"), "age", pa.array([*ages[:-1], float("inf")]))
    for threads in (1, 3):  # the row of the table, and not of a part of it
        with pytest.raises(ScoreRefused, match=f"row {len(rows) - 1}: age"):
            madrone.udf(model, threads=threads)(bad)
    begun: list[int] = []
    score = madrone.udf(model, threads=2)
    scored_one = score.scorer.scored
    monkeypatch.setattr(score.scorer, "scored", lambda batch: begun.append(1) or scored_one(batch))
    with pytest.raises(ScoreRefused, match="bad row"):
        score(pa.concat_tables([bad[-1:]] + [rows] * 200))
    assert len(begun) < 100  # of some 1,400
    with pytest.raises(ScoreRefused, match=f"row {len(rows) - 1}: age"):
        list(madrone.udf(model).batches(bad.to_batches(max_chunksize=7)))


def test_the_schema_is_known_without_rows(model: str, rows: pa.Table) -> None:
    score = madrone.udf(model, interval=0.9, explain=2)
    scored = score(rows)
    assert scored.schema == score.schema(rows.schema)
    assert scored.schema.names[:4] == ["id", "prediction", "lower", "upper"]
    assert "contribution_2" in scored.schema.names
    assert score(rows[:0]).schema == scored.schema
    assert any(name.startswith("contribution:") for name in madrone.udf(model, explain=True)(rows).schema.names)
    assert score.features == ("income", "rooms", "age")


def test_it_is_pickled_without_its_model_which_a_process_loads_once(
    model: str, rows: pa.Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(Path(model).parent)
    score = madrone.udf(Path(model).name, interval=0.9)
    before = score(rows)
    content = pickle.dumps(score)
    assert len(content) < 1000
    loads: list[str] = []
    load = function._load
    monkeypatch.setattr(function, "_loaded", {})
    monkeypatch.setattr(function, "_load", lambda *arguments: loads.append(arguments[0]) or load(*arguments))
    monkeypatch.chdir(tmp_path)  # a worker's own
    with ThreadPoolExecutor(4) as pool:
        copies = [pickle.loads(content) for _ in range(8)]
        assert all(table.equals(before) for table in pool.map(lambda copy: copy(rows), copies))
    assert loads == [model]


def test_an_alias_is_pinned_when_the_function_is_made(
    model: str, rows: pa.Table, private_registry_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=private_registry_dir, model_name=MODEL)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    catalogue = Catalogue(settings)
    catalogue.create()
    catalogue.add(Path(model), alias="champion")
    score = madrone.udf(f"models:/{MODEL}@champion", interval=0.9)
    catalogue.add(Path(model), alias="champion")
    assert (score.model, madrone.udf(f"models:/{MODEL}@champion").model) == (f"models:/{MODEL}/1", f"models:/{MODEL}/2")
    assert score(rows).equals(madrone.udf(model, interval=0.9)(rows))
    with pytest.raises(NothingToServe):
        madrone.udf(f"models:/{MODEL}@nobody")


def test_the_files_at_a_path_are_those_that_were_there_when_the_function_was_made(
    booster: lgb.Booster, rows: pa.Table, expected: NDArray[np.float64], tmp_path: Path
) -> None:
    path = tmp_path / "model.txt"
    booster.save_model(path, num_iteration=5)
    first, late = madrone.udf(path), madrone.udf(str(path))
    before = first(rows)
    booster.save_model(path)
    np.testing.assert_array_equal(madrone.udf(path)(rows)["prediction"], expected)
    assert first(rows).equals(before)
    with pytest.raises(ScoreRefused, match="have changed since the function was made"):
        pickle.loads(pickle.dumps(late))(rows)


def test_bad_rows_fail_or_have_no_prediction(model: str, rows: pa.Table, expected: NDArray[np.float64]) -> None:
    column = rows["age"].to_numpy().copy()
    column[3] = np.inf
    bad = rows.set_column(rows.schema.get_field_index("age"), "age", [column])
    with pytest.raises(ScoreRefused, match="1 bad row\\n  age must be a finite number"):
        madrone.udf(model)(bad)
    scored = madrone.udf(model, on_error="null")(bad)
    assert scored["prediction"].null_count == 1
    assert scored["prediction"][3].as_py() is None
    assert scored["prediction"][4].as_py() == expected[4]


def test_what_cannot_be_scored_is_told(model: str, rows: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="none of them"):
        madrone.udf("ftp://model")
    with pytest.raises(ValueError, match="explain must be"):
        madrone.udf(model, explain=-1)
    with pytest.raises(ValueError, match="on_error must be"):
        madrone.udf(model, on_error="skip")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="threads must be"):
        madrone.udf(model, threads=0)
    with pytest.raises(ScoreRefused, match=r"no intervals of level 0\.5"):
        madrone.udf(model, interval=0.5)(rows)
    with pytest.raises(ScoreRefused, match="age is missing"):
        madrone.udf(model)(rows.drop_columns("age"))
    with pytest.raises(NothingToServe):
        madrone.udf(str(tmp_path / "none"))(rows)
    with pytest.raises(ValueError, match="explain must be"):
        madrone.udf(model, explain="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"not pandas\.(core\.frame\.)?DataFrame"):
        madrone.udf(model)(rows.to_pandas())
    with pytest.raises(ValueError, match="takes 3 columns, and not 1: income, rooms, age"):
        madrone.udf(model).predict(rows["age"])
