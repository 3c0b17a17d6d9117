"""Fixtures: a headless Chromium for each module, and one service for those that bring none of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.console.browser.support import CHROMIUM, KEYS, Console, Scheme
from tests.support import BY_PATH, Server, server_environ


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is on PATH")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    # It lives no longer than the tests of a module: while it does, no event loop of an asynchronous test can run.
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=arguments) as found:
        yield found


@pytest.fixture(scope="session")
def server(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with both keys."""
    directory = tmp_path_factory.mktemp("console")
    server = Server(server_environ(registry_dir, directory) | BY_PATH | KEYS, directory)
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
