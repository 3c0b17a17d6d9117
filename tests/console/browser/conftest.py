"""Fixtures: one headless Chromium for all tests of a module, and one service."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from app.config.settings import Settings
from app.models.registry.embedded import BUNDLED
from app.models.registry.publish import publish
from tests.console.browser.support import CHROMIUM, KEYS, Console, Scheme
from tests.models.keeping import keep
from tests.support import Server, server_environ


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is on PATH")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    # It lives no longer than its module: while it does, no event loop of an asynchronous test can run.
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=arguments) as found:
        yield found


@pytest.fixture(scope="session")
def server(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with both keys, whose registry has a second version, which is in no stage."""
    directory = tmp_path_factory.mktemp("console")
    shutil.copy(registry_dir / "mlflow.db", directory)
    registry = f"sqlite:///{directory / 'mlflow.db'}"
    settings = Settings(data_dir=registry_dir, mlflow_tracking_uri=registry)
    name = settings.model_name
    publish(settings, BUNDLED / "model", name=name, params={}, metrics={}, tags={}, alias="next", stage=None)
    kept = keep(settings)  # so that the service finds the first version on disk, and starts at once
    assert asyncio.run(kept.keeper.refresh()).outcome == "swapped"
    kept.keeper.close()
    environ = server_environ(registry_dir, directory) | KEYS | {"MLFLOW_TRACKING_URI": registry}
    server = Server(environ, directory)
    try:
        yield server.wait_ready()
    finally:
        server.kill()


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Console]]:
    """Opens the page, without a key; fails if the browser complained of it."""
    opened: list[Console] = []

    def open_one(width: int = 1280, scheme: Scheme = "light") -> Console:
        opened.append(Console(browser, server, width, scheme))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
    assert [fault for one in opened for fault in one.faults] == []


@pytest.fixture(scope="module")
def kept_page(browser: Browser, server: Server) -> Iterator[Console]:
    """A page that has the key and stays open for all tests of a module."""
    opened = Console(browser, server)
    opened.give_key()
    yield opened
    opened.close()


@pytest.fixture
def console(kept_page: Console) -> Iterator[Console]:
    """The page that stays open, with the example row; fails if the browser complained of it."""
    kept_page.show("try")
    kept_page.page.get_by_role("button", name="Example row").click()
    kept_page.settled()
    yield kept_page
    faults, kept_page.faults = kept_page.faults, []
    assert faults == []
