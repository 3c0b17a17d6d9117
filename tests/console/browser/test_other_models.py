"""The console of models that are not the bundled one: categories, missing values and classes."""

import re
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, expect

from tests.console.browser.support import MINUS, VIEWS, Console
from tests.models.colors import trained_on
from tests.models.support import NAMES, save_booster, tiny_booster, tiny_rows
from tests.support import HTTP, Server, server_environ

pytestmark = pytest.mark.slow

Shown = Callable[[Path], AbstractContextManager[tuple[Server, Console]]]


@pytest.fixture
def shown(browser: Browser, registry_dir: Path, tmp_path: Path) -> Shown:
    """Serves a model directory, and opens the page; fails if the browser complained of it."""

    @contextmanager
    def show(directory: Path) -> Generator[tuple[Server, Console]]:
        environ = {"MODEL_PATH": str(directory), "MODEL_NAME": "other"}
        server = Server(server_environ(registry_dir, tmp_path) | environ, tmp_path)
        try:
            opened = Console(browser, server.wait_ready(), 320)
            yield server, opened
            for view in VIEWS:
                opened.show(view)
                assert not opened.is_too_wide(), view
                assert opened.violations() == [], view
            opened.close()
            assert opened.faults == []
        finally:
            server.kill()

    return show


def test_categories_and_missing_values_can_be_asked_for(shown: Shown, tmp_path: Path) -> None:
    with shown(trained_on(tmp_path / "colors").directory) as (server, console):
        page = console.page
        row = HTTP.get(f"{server.url}/predict/model/info").json()["example"]
        for changes in ({"color": 'grün, "hell"', "size": 10}, {"color": None, "income": None}):
            row |= changes
            for name, value in changes.items():
                field = console.field(name)
                if name == "income":
                    field.fill("")
                else:
                    field.select_option("missing" if value is None else str(value))
            console.settled()
            expected = HTTP.post(f"{server.url}/predict", json=row).json()["prediction"]
            assert console.prediction() == pytest.approx(expected, rel=1e-3)
        expect(console.field("income")).to_have_attribute("placeholder", "missing")
        page.get_by_label("Feature").select_option("size")
        chart = page.locator(".curve svg")
        expect(chart.locator("text.mark", has_text=re.compile(f"^(30|10|20|{MINUS}5)$"))).to_have_count(4)
        chart.click(position={"x": 200, "y": 10 + 24 * 2 + 12})
        expect(console.field("size")).to_have_value("2")
        page.get_by_label("Feature").select_option("income")
        expect(chart).to_contain_text("this row: missing")


def test_the_class_of_the_greatest_probability_comes_first(shown: Shown, tmp_path: Path) -> None:
    names = ["plain", "of a very long name", "none"]
    frame = pd.DataFrame(tiny_rows(), columns=list(NAMES))
    classifier: Any = lgb.LGBMClassifier(n_estimators=10, min_child_samples=3, verbose=-1, n_jobs=1)
    classifier.fit(frame, np.array(names)[(frame["age"] % 3).astype(int)])
    labels = [str(label) for label in classifier.classes_]
    with shown(save_booster(classifier, tmp_path / "classes", input_example=None)) as (server, console):
        page = console.page
        row = dict.fromkeys(NAMES, 0)
        answer = HTTP.post(f"{server.url}/predict/explain", json=row).json()
        order = sorted(range(3), key=lambda place: -answer["prediction"][place])
        expect(page.locator(".big")).to_contain_text(f"{labels[order[0]]} with probability")
        expect(page.locator(".prediction tbody th")).to_have_text([labels[place] for place in order])
        expect(page.locator(".waterfall caption")).to_contain_text(f"of the class {labels[order[0]]}")
        page.get_by_label("Explain the class").select_option(str(order[-1]))
        expect(page.locator(".waterfall caption")).to_contain_text(f"of the class {labels[order[-1]]}")
        base = answer["explanation"]["base_value"][order[-1]]
        expect(page.locator(".waterfall .end").first).to_contain_text(f"{base:.4g}".replace("-", MINUS))
        expect(page.locator(".curve")).to_contain_text(f"Probability of the class {labels[order[-1]]}")
        console.show("data").locator("#file").set_input_files(
            {"name": "rows.csv", "mimeType": "text/csv", "buffer": b"income,rooms,age\n0,0,0\n"}
        )
        first = page.get_by_role("region", name="First rows").get_by_role("row")
        expect(first.nth(0)).to_contain_text("label")
        expect(first.nth(1)).to_contain_text(labels[order[0]])


def test_the_checks_are_those_that_the_service_made(shown: Shown, tmp_path: Path) -> None:
    with shown(save_booster(tiny_booster(), tmp_path / "tiny")) as (server, console):
        panel = console.show("model")
        made = HTTP.get(f"{server.url}/console/model").json()["checks"]
        assert "digest" not in made
        expect(panel.locator(".checks li")).to_have_count(len(made))
        expect(panel.locator(".checks")).not_to_contain_text("digest")
