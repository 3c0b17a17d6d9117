"""Fixtures: a model with intervals, and rows to score."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from app.models.process.worker import ModelWorker
from app.udf import function
from tests.calibration.made import TARGET, boosted, calibrated, frame, predicted, saved


@pytest.fixture(scope="session")
def booster():
    return boosted(frame(1))


@pytest.fixture(scope="session")
def model(booster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a model with intervals."""
    folder = tmp_path_factory.mktemp("udf")
    calibrated(saved(booster, folder / "model"), frame(2), folder, method="plain")
    return str(folder / "out")


@pytest.fixture
def rows() -> pa.Table:
    """Rows with an id and a missing value."""
    table = frame(3, 50).drop(columns=TARGET).assign(id=np.arange(50))
    table.loc[7, "rooms"] = np.nan
    return pa.Table.from_pandas(table, preserve_index=False)


@pytest.fixture
def expected(booster, rows: pa.Table) -> NDArray[np.float64]:
    """What LightGBM predicts for the rows."""
    return predicted(booster, rows.to_pandas())


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models are loaded without the process that takes seconds to start, each test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.models.process.client.quiet_worker", ModelWorker)
    monkeypatch.setattr(function, "_loaded", {})
