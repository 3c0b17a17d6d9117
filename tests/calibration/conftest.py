"""Fixtures: a regressor and a classifier that plain MLflow saved, fitted on other rows than the tests calibrate on."""

from pathlib import Path
from typing import NamedTuple

import lightgbm as lgb
import pytest

from app.calibration.report import CalibrationReport
from tests.calibration.made import boosted, calibrated, frame, saved
from tests.models.support import catalogue as catalogue
from tests.models.support import houses as houses


class Model(NamedTuple):
    """A model directory, and the booster in it."""

    directory: Path
    booster: lgb.Booster


class Calibrated(NamedTuple):
    """A calibrated model, its original, and what was told about it."""

    directory: Path
    original: Model
    report: CalibrationReport


@pytest.fixture(scope="session")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Model:
    booster = boosted(frame(1))
    return Model(saved(booster, tmp_path_factory.mktemp("regressor") / "model"), booster)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Model:
    booster = boosted(frame(1, kind="class"), objective="binary")
    return Model(saved(booster, tmp_path_factory.mktemp("classifier") / "model"), booster)


@pytest.fixture(scope="session")
def normalised(regressor: Model, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """The regressor, calibrated; not to be changed."""
    folder = tmp_path_factory.mktemp("normalised")
    return Calibrated(folder / "out", regressor, calibrated(regressor.directory, frame(2, 3000), folder))
