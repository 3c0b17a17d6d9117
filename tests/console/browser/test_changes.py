"""What an open page does when the model or the service changes under it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.config.settings import Settings
from app.models.registry.embedded import BUNDLED
from app.models.registry.publish import publish
from tests.console.browser.support import ADMIN_API_KEY, API_KEY, KEYS, Console
from tests.models.keeping import keep
from tests.support import HTTP, Server, server_environ

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose registry has a second version, which is in no stage."""
    directory = tmp_path_factory.mktemp("console")
    shutil.copy(registry_dir / "mlflow.db", directory)
    registry = f"sqlite:///{directory / 'mlflow.db'}"
    settings = Settings(data_dir=registry_dir, mlflow_tracking_uri=registry)
    name = settings.model_name
    publish(settings, BUNDLED / "model", name=name, params={}, metrics={}, tags={}, alias="next", stage=None)
    kept = keep(settings)  # so that the service finds the first version on disk, and starts at once
    kept.refresher.look(retry_refused=False)
    kept.keeper.close()
    environ = server_environ(registry_dir, directory) | KEYS | {"MLFLOW_TRACKING_URI": registry}
    server = Server(environ, directory)
    try:
        yield server.wait_ready()
    finally:
        server.kill()


def test_the_operator_pins_a_version_and_rolls_back(console: Console) -> None:
    console.prediction()
    panel = console.show("model")
    expect(panel.get_by_text("92a3de1d6b6b0b4d")).to_be_visible()
    panel.get_by_label("Version").fill("77")
    panel.get_by_role("button", name="Pin", exact=True).click()
    console.give_key("wrong")
    expect(console.page.get_by_role("dialog").get_by_role("alert")).to_have_text("The key is not valid.")
    console.give_key(ADMIN_API_KEY)
    expect(panel.get_by_role("alert")).to_contain_text("has no version '77'")
    panel.get_by_label("Version").fill("2")
    panel.get_by_role("button", name="Pin", exact=True).click()
    expect(console.page.locator("#model-name")).to_contain_text("version 2")
    expect(panel.locator(".facts").nth(1)).to_contain_text(re.compile(r"Pinned to\s*2"))
    panel.get_by_role("button", name="Roll back to version 1").click()
    expect(console.page.locator("#model-name")).to_contain_text("version 1")
    panel.get_by_role("button", name="Unpin").click()
    expect(panel.locator(".facts").nth(1)).not_to_contain_text("Pinned to")


def test_a_page_follows_a_swap_and_keeps_the_row(console: Console, server: Server) -> None:
    console.field("MedInc").fill("7.25")
    console.settled()
    for order, version in ({"version": "2"}, "2"), ({"version": None}, "1"):
        headers = {"X-API-Key": ADMIN_API_KEY}
        answer = HTTP.post(f"{server.url}/health/model/reload", json=order, headers=headers, timeout=60)
        assert answer.json()["outcome"] == "swapped"
        expect(console.page.locator("#model-name")).to_contain_text(f"version {version}")
        expect(console.field("MedInc")).to_have_value("7.25")
        console.prediction()


def test_a_page_connects_again_after_a_restart(console: Console, server: Server) -> None:
    console.prediction()
    server.terminate()
    status = console.page.get_by_role("status").first
    expect(status).to_have_text("Connection lost, trying again …")
    console.field("MedInc").fill("5")
    expect(console.page.get_by_role("alert")).to_have_text("The service does not answer.")
    server.start()
    server.wait_ready()
    expect(status).to_contain_text("healthy")
    expect(console.page.get_by_role("alert")).to_have_count(0)
    assert console.prediction() > 0
    assert API_KEY not in console.page.content()
