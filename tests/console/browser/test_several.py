"""The console of a service with several models: each can be chosen, and what the page shows is that model's."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app.config.settings import Settings
from tests.console.browser.support import ADMIN_API_KEY, KEYS, VIEWS, Console
from tests.models.support import NAMES, save_booster, tiny_booster
from tests.routes.support import register
from tests.support import HTTP, Server, server_environ

pytestmark = pytest.mark.slow

FIRST = Settings().model_name
ROW = dict(zip(NAMES, (0.5, -0.25, 3.0), strict=True))


@pytest.fixture(scope="module")
def server(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with the bundled model, another one with a canary, and one without a version."""
    directory = tmp_path_factory.mktemp("several")
    shutil.copy(registry_dir / "mlflow.db", directory)
    settings = Settings(mlflow_tracking_uri=f"sqlite:///{directory / 'mlflow.db'}", model_name="churn & co")
    saved = save_booster(tiny_booster(), directory / "churn")
    register(settings, saved)
    register(settings, saved, alias="next")
    environ = {
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri, "DATA_DIR": str(directory / "data"),
        "MODEL_NAMES": f"{FIRST},churn %26 co?canary_alias=next&canary_percent=20,risk",
    }  # fmt: skip
    server = Server(server_environ(registry_dir, directory) | environ | KEYS, directory)
    try:
        yield server.wait_ready()
    finally:
        server.kill()


def test_the_page_is_about_the_model_that_was_chosen(console: Console, server: Server) -> None:
    page, choice = console.page, console.page.get_by_role("combobox", name="Model", exact=True)
    expect(choice.locator("option")).to_have_text([FIRST, "churn & co", "risk"])
    first = console.prediction()
    choice.select_option("churn & co")
    expect(console.field("income")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?model=churn%20%26%20co#try$"))
    for name, value in ROW.items():
        console.field(name).fill(str(value))
    console.settled()
    headers = {"X-API-Key": KEYS["API_KEY"]}
    expected = HTTP.post(f"{server.url}/predict/churn%20%26%20co", json=ROW, headers=headers).json()["prediction"]
    assert console.prediction() == pytest.approx(expected, rel=1e-3)
    expect(page.locator(".why").get_by_role("row", name="income")).to_be_visible()

    panel = console.show("model")
    row = panel.get_by_role("row", name="churn & co")
    expect(row).to_contain_text(re.compile(r"in service\s*1\s*Production\W*2 for 20"))
    expect(panel.get_by_role("row", name="risk")).to_contain_text("no version")
    expect(panel.locator(".facts").first).to_contain_text(re.compile(r"Name\s*churn & co"))
    expect(console.show("live").get_by_text("are those of churn & co")).to_be_visible()
    expect(page.locator("#view-live").get_by_role("table", name="Drift by feature")).to_be_hidden()  # too few rows

    panel = console.show("model")
    panel.get_by_role("button", name="risk").click()
    expect(panel.locator(".facts").first).to_contain_text(re.compile(r"Version\s*none is loaded"))
    expect(console.show("try").get_by_role("alert")).to_contain_text("/health/model/risk says why")
    choice.select_option(FIRST)
    expect(page).to_have_url(re.compile(r"/#try$"))
    assert console.prediction() == first


def test_an_order_is_for_the_model_that_was_chosen(console: Console) -> None:
    console.page.get_by_role("combobox", name="Model", exact=True).select_option("churn & co")
    panel = console.show("model")
    panel.get_by_label("Version").fill("2")
    panel.get_by_role("button", name="Pin", exact=True).click()
    console.give_key(ADMIN_API_KEY)
    expect(panel.get_by_role("row", name="churn & co")).to_contain_text(re.compile(r"pinned\s*2"))
    expect(panel.get_by_role("row", name=FIRST)).to_contain_text("in service")
    panel.get_by_role("button", name="Unpin").click()
    expect(panel.get_by_role("row", name="churn & co")).to_contain_text(re.compile(r"in service\s*1"))
    console.page.get_by_role("combobox", name="Model", exact=True).select_option(FIRST)


def test_a_model_can_be_linked_to_and_each_view_fits_a_phone(browser: Browser, server: Server) -> None:
    opened = Console(browser, server, 320)
    opened.page.goto(f"{server.url}/?model=churn%20%26%20co#model")
    opened.give_key()
    expect(opened.page.locator("#view-model .facts").first).to_contain_text("churn & co")
    for view in VIEWS:
        opened.show(view)
        assert not opened.is_too_wide(), view
        assert opened.violations() == [], view
    opened.page.goto(f"{server.url}/?model=flats#try")
    expect(opened.page.locator("#view-try").get_by_role("alert")).to_contain_text("There is no model of this name")
    opened.close()
    assert opened.faults == []
