"""Fixtures: a second registered model, with features and classes of its own."""

from pathlib import Path

import lightgbm as lgb
import pytest

from app.config.settings import Settings
from app.models.served import ServedModel
from tests.models.support import save_referring, serve
from tests.routes.support import CHURN, churn_booster, register, save_churn
from tests.support import free_port


@pytest.fixture(scope="session")
def churn() -> lgb.Booster:
    """The booster of the second model; not to be changed."""
    return churn_booster()


@pytest.fixture(scope="session")
def referring(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """A model with stored rows and intervals."""
    return serve(save_referring(tmp_path_factory.mktemp("referring") / "model"))


@pytest.fixture
def churn_settings(private_registry_dir: Path, tmp_path: Path, churn: lgb.Booster) -> Settings:
    """Settings of an app that serves the second model."""
    settings = Settings(
        data_dir=private_registry_dir,
        database_url=f"sqlite:///{tmp_path / 'churn.db'}",
        model_name=CHURN,
        prometheus_port=free_port(),
    )
    register(settings, save_churn(tmp_path / "churn", churn))
    return settings
