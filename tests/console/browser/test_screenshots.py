"""The pictures of the console in its README, made by `just screenshots`."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.console.browser.support import API_KEY, KEYS, VIEWS, Console, Scheme
from tests.routes.support import Row
from tests.support import HTTP, Server, server_environ

pytestmark = pytest.mark.skipif("CONSOLE_SCREENSHOTS" not in os.environ, reason="made by `just screenshots`")

WARM_UP_S = 20


@pytest.fixture(scope="module")
def server(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service of a registered model, which has the figures of its run and a card."""
    directory = tmp_path_factory.mktemp("screenshots")
    server = Server(server_environ(registry_dir, directory) | KEYS, directory)
    try:
        yield server.wait_ready()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def rows(server: Server) -> list[Row]:
    """Rows whose values are spread as those of the training rows."""
    numbers: dict[str, Any] = HTTP.get(f"{server.url}/console/model").json()["reference"]["numbers"]
    draw = random.Random(1)

    def value(edges: list[float]) -> float:
        place = draw.randrange(len(edges) - 1)
        return round(draw.uniform(edges[place], edges[place + 1]), 3)

    return [{name: value(found["edges"]) for name, found in numbers.items()} for _ in range(2000)]


@pytest.fixture(scope="module")
def traffic(server: Server, rows: list[Row]) -> Iterator[None]:
    """Requests all the time."""
    stopped = threading.Event()

    def ask() -> None:
        place = 0
        while not stopped.wait(0.02):
            place = (place + 1) % len(rows)
            HTTP.post(f"{server.url}/predict", json=rows[place], headers={"X-API-Key": API_KEY})

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    stopped.set()
    thread.join()


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1600, "light")])
@pytest.mark.usefixtures("traffic")
def test_screenshots(
    open_page: Callable[..., Console], rows: list[Row], width: int, scheme: Scheme, tmp_path: Path
) -> None:
    opened = open_page(width, scheme)
    opened.give_key()
    opened.prediction()
    page = opened.page
    table = tmp_path / "houses.csv"
    table.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]))
    opened.show("data").locator("#file").set_input_files(table)
    expect(page.locator("#view-data").get_by_role("status")).to_contain_text("2,000 rows")
    opened.show("live")
    page.wait_for_timeout(WARM_UP_S * 1000)
    for view in VIEWS:
        opened.show(view)
        page.wait_for_timeout(1500)
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": width, "height": max(900, height)})
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(os.environ["CONSOLE_SCREENSHOTS"]) / f"{view}-{width}-{scheme}.png")
        page.set_viewport_size({"width": width, "height": 900})
