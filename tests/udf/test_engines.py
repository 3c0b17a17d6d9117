"""The recipes of `app/udf/README.md`, each on its engine."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import madrone


def test_duckdb(model: str, rows: pa.Table, expected: NDArray[np.float64]) -> None:
    duckdb: Any = pytest.importorskip("duckdb")
    score = madrone.udf(model)

    def price(income, rooms, age):
        return score.predict(income, rooms, age)

    connection = duckdb.connect()
    connection.create_function("price", price, ["DOUBLE"] * 3, "DOUBLE", type="arrow", null_handling="special")
    connection.register("houses", rows)
    found = connection.sql("SELECT id, price(income, rooms, age) AS price FROM houses ORDER BY id").to_arrow_table()
    np.testing.assert_array_equal(found["price"], expected)


def test_duckdb_by_record_batches(model: str, rows: pa.Table, expected: NDArray[np.float64], tmp_path: Path) -> None:
    duckdb: Any = pytest.importorskip("duckdb")
    pq.write_table(rows, tmp_path / "houses.parquet")
    score = madrone.udf(model, interval=0.9)
    houses = duckdb.connect().sql(f"FROM '{tmp_path}/houses.parquet' ORDER BY id").to_arrow_reader(20)
    scored = pa.RecordBatchReader.from_batches(score.schema(houses.schema), score.batches(houses))
    connection = duckdb.connect().register("scored", scored)
    found = connection.sql("SELECT prediction, lower FROM scored ORDER BY id").to_arrow_table()
    np.testing.assert_array_equal(found["prediction"], expected)
    assert (found["lower"].to_numpy() < expected).all()


def test_polars(model: str, rows: pa.Table, expected: NDArray[np.float64], tmp_path: Path) -> None:
    pl: Any = pytest.importorskip("polars")
    pq.write_table(rows, tmp_path / "houses.parquet")
    score = madrone.udf(model, interval=0.9)
    houses = pl.scan_parquet(tmp_path / "houses.parquet")
    schema = pl.from_arrow(score.schema(houses.head(0).collect().to_arrow().schema).empty_table()).schema
    scored = houses.map_batches(lambda part: pl.from_arrow(score(part.to_arrow())), schema=schema)
    found = scored.filter(pl.col("upper") > pl.col("prediction")).sort("id").collect()
    assert found.columns == ["id", "prediction", "lower", "upper"]
    np.testing.assert_array_equal(found["prediction"].to_numpy(), expected)


@pytest.mark.slow  # to import it takes seconds
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")  # Dask's own use of pandas
def test_dask(model: str, rows: pa.Table, expected: NDArray[np.float64], tmp_path: Path) -> None:
    dd: Any = pytest.importorskip("dask.dataframe")
    for part in range(2):
        pq.write_table(rows[part * 25 : part * 25 + 25], tmp_path / f"houses-{part}.parquet")
    score = madrone.udf(model)

    def scored(part):
        return score(pa.Table.from_pandas(part, preserve_index=False)).to_pandas().set_index(part.index)

    houses = dd.read_parquet(tmp_path / "houses-*.parquet")
    meta = score.schema(pa.Schema.from_pandas(houses._meta, preserve_index=False)).empty_table().to_pandas()
    found = houses.map_partitions(scored, meta=meta).compute(scheduler="threads")
    np.testing.assert_array_equal(found["prediction"], expected)
    assert found["id"].tolist() == list(range(50))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
def test_spark(
    model: str, rows: pa.Table, expected: NDArray[np.float64], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql: Any = pytest.importorskip("pyspark.sql", reason="pyspark, which needs Java, is not installed")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    pq.write_table(rows, tmp_path / "houses.parquet")
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    spark = builder.getOrCreate()
    try:
        score = madrone.udf(model)
        houses = spark.read.parquet(str(tmp_path / "houses.parquet"))
        scored = houses.mapInArrow(score.batches, "id long, prediction double")
        found = scored.orderBy("id").toArrow()
    finally:
        spark.stop()
    np.testing.assert_array_equal(found["prediction"], expected)
