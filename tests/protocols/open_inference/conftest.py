"""Fixtures: an app that the tests of a module share, and rows of its model."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.config.settings import Settings
from app.models.served import ServedModel
from tests.models.support import NAMES, save_referring, serve
from tests.protocols.open_inference.support import MODEL, App


@pytest.fixture(scope="session")
def referring(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """A model of three numbers with intervals."""
    served = serve(save_referring(tmp_path_factory.mktemp("referring") / "model"))
    return msgspec.structs.replace(served, identity=msgspec.structs.replace(served.identity, name=MODEL))


@pytest.fixture(scope="module")
def app_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an app that finds no model: the tests bring theirs."""
    directory = tmp_path_factory.mktemp("open-inference")
    return Settings(
        data_dir=directory, database_url=f"sqlite:///{directory / 'log.db'}", model_path=str(directory / "none")
    )


@pytest.fixture(scope="module")
def shared_app(app_settings: Settings) -> Iterator[App]:
    app = App(app_settings)
    yield app
    app.close()


@pytest.fixture
def app(shared_app: App, referring: ServedModel) -> App:
    """An app that serves the model of intervals."""
    shared_app.slot.current, shared_app.slot.canary = referring, None
    return shared_app


@pytest.fixture(scope="session")
def rows() -> NDArray[np.float64]:
    """float64[5, 3]."""
    return np.random.default_rng(5).normal(size=(5, len(NAMES)))
