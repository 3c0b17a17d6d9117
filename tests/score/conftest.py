"""The command `madrone score`, and files for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.models.process.worker import ModelWorker
from tests.score.support import ROWS, Score, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of x, y and z, what it predicts, and the same rows in all formats."""
    folder = tmp_path_factory.mktemp("score")
    booster = small_model(folder / "m.txt")
    rows = np.random.default_rng(3).normal(size=(ROWS, 3))
    prediction: Any = booster.predict(rows)
    np.save(folder / "expected.npy", prediction)
    names = [f"n{number:05}" for number in range(ROWS)]
    table = pa.table({"id": names} | {name: rows[:, place] for place, name in enumerate("xyz")})
    pq.write_table(table, folder / "in.parquet", row_group_size=100)
    pyarrow.csv.write_csv(table, folder / "in.csv")
    with pa.ipc.new_file(folder / "in.arrow", table.schema) as file:
        file.write_table(table)
    lines = table.to_pandas().to_json(orient="records", lines=True, double_precision=15)
    (folder / "in.ndjson").write_text(lines)
    return folder


@pytest.fixture
def score(registry_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    monkeypatch.setattr("app.models.process.client.quiet_worker", ModelWorker)  # which takes seconds to start

    def run(source: Path | str, output: Path | str, *options: str, input: bytes | None = None) -> Result:
        arguments = ["score", str(source), "--output", str(output), "--model", str(folder / "m.txt"), *options]
        return CliRunner().invoke(main, arguments, env={"DATA_DIR": str(registry_dir)}, input=input)

    return run
