"""Fixtures: a model directory that plain MLflow wrote, and an embedded registry to put versions in."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.settings import Settings
from tests.models.disk.storing import mount
from tests.models.keeping import Kept, keep
from tests.models.support import (
    Catalogue,
    SavedModel,
    save_booster,
    save_referring,
    tiny_booster,
    tiny_rows,
)
from tests.models.support import catalogue as catalogue
from tests.models.support import houses as houses


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A booster that `mlflow.lightgbm.save_model` saved; not to be changed."""
    booster = tiny_booster()
    return SavedModel(save_booster(booster, tmp_path_factory.mktemp("saved") / "model"), booster, tiny_rows())


@pytest.fixture(scope="session")
def referring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with stored rows and intervals; not to be changed."""
    return save_referring(tmp_path_factory.mktemp("referring") / "model")


@pytest.fixture
def kept(houses: Settings) -> Iterator[Kept]:
    """A keeper of the model `houses`."""
    kept = keep(houses)
    yield kept
    kept.keeper.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    (tmp_path / "disk").mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path / "disk"))
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    try:
        yield tmp_path / "disk"
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "disk")], check=True)


@pytest.fixture
async def second_in_use(kept: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path) -> Kept:
    """A keeper that serves version 2, after version 1."""
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.add(save_booster(tiny_booster(rounds=2), tmp_path / "second"), "Production")
    await kept.keeper.refresh()
    return kept
