"""Fixtures: the second registered model, which these tests share with those of the routes, and both ways of an app."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.settings import Settings
from tests.predict.support import Ways
from tests.routes.conftest import churn, churn_settings, referring
from tests.support import free_port

__all__ = ["churn", "churn_settings", "referring"]


@pytest.fixture(scope="module")
def ways(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    yield from _ways(registry_dir, tmp_path_factory.mktemp("straight"), None)


@pytest.fixture(scope="module")
def keyed(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Ways of a service that requires the key `k` * 20."""
    yield from _ways(registry_dir, tmp_path_factory.mktemp("keyed"), "k" * 20)


def _ways(registry_dir: Path, directory: Path, key: str | None) -> Iterator[Ways]:
    ways = Ways(
        Settings(
            data_dir=registry_dir, database_url=f"sqlite:///{directory / 'log.db'}", prometheus_port=free_port(),
            api_key=key,
        )
    )  # fmt: skip
    yield ways
    ways.close()
