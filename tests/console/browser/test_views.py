"""The views of the console, as a user works with them."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Error, Route, expect

from tests.console.browser.support import ADMIN_API_KEY, API_KEY, MINUS, NUMBER, VIEWS, Console, Scheme
from tests.routes.support import Row
from tests.support import HTTP, Server

Open = Callable[..., Console]

PREDICT = "**/predict{,/explain}?*"


def predicted(server: Server, row: Row) -> float:
    return HTTP.post(f"{server.url}/predict", json=row, headers={"X-API-Key": API_KEY}).json()["prediction"]


def test_a_key_is_asked_for_until_it_is_right(open_page: Open) -> None:
    opened = open_page()
    page = opened.page
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    assert opened.violations() == []
    opened.give_key("wrong")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("The key is not valid.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_have_text("The key is not valid.")
    page.get_by_role("button", name="Enter the key").click()
    opened.give_key()
    assert opened.prediction() > 0
    assert page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
    assert API_KEY not in page.content()


def test_the_prediction_follows_what_is_typed(console: Console, server: Server, example: Row) -> None:
    page = console.page
    assert console.prediction() == pytest.approx(predicted(server, example), rel=1e-3)
    expect(page.locator(".interval")).to_contain_text("90 % interval")
    console.field("MedInc").fill("9.5")
    console.settled()
    changed = example | {"MedInc": 9.5}
    assert console.prediction() == pytest.approx(predicted(server, changed), rel=1e-3)
    page.locator("#interval-level").select_option("50 %")
    expect(page.locator(".interval")).to_contain_text("50 % interval")
    page.get_by_label("MedInc, slider").press("End")
    expect(console.field("MedInc")).to_have_value("15")
    expect(page.locator("#feature-0-place")).to_contain_text("above 100 % of training rows")
    console.field("MedInc").fill("20")
    expect(page.locator(".note.warning")).to_contain_text("MedInc")
    page.get_by_role("button", name="Example row").click()
    expect(console.field("MedInc")).to_have_value(str(example["MedInc"]))


@pytest.mark.slow
def test_the_answer_to_an_older_row_is_dropped(console: Console, server: Server, example: Row) -> None:
    held: list[Route] = []
    console.page.route(PREDICT, lambda route: route.continue_() if held else held.append(route))
    with console.page.expect_request(PREDICT):
        console.field("MedInc").fill("1")
    console.field("MedInc").fill("9")
    console.settled()
    with suppress(Error):  # Chromium has given the request up
        held[0].fulfill(json={"prediction": 77, "warnings": [], "confidence_interval": None})
    console.page.unroute(PREDICT)
    assert console.prediction() == pytest.approx(predicted(server, example | {"MedInc": 9.0}), rel=1e-3)


def test_faults_stand_beside_their_fields(console: Console, example: Row) -> None:
    faults = {
        "MedInc": ("many", "must be a number, not text"),
        "HouseAge": ("", "is missing"),
        "Latitude": ("99", "must be in the range -90 to 90"),
        "Population": ("-1", "must be in the range 0 to"),
        "AveOccup": ("1e999", "must be"),
    }
    for name, (text, _) in faults.items():
        console.field(name).fill(text)
    for name, (_, fault) in faults.items():
        field = console.field(name)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(re.escape(fault)))
    expect(console.page.locator(".big")).to_have_text("No prediction")
    expect(console.field("AveRooms")).to_have_attribute("aria-invalid", "false")
    for name in faults:
        console.field(name).fill(str(example[name]))
    console.settled()
    expect(console.page.locator("[aria-invalid=true]")).to_have_count(0)
    console.prediction()


@pytest.mark.slow
def test_the_pin_moves_by_keys_and_by_pointer(console: Console, example: Row) -> None:
    console.prediction()
    pin = console.page.get_by_role("slider", name="Place")
    pin.focus()
    pin.press("ArrowUp")
    north = float(console.field("Latitude").input_value())
    assert north > example["Latitude"]
    pin.press("Shift+ArrowRight")
    assert float(console.field("Longitude").input_value()) > example["Longitude"]
    expect(pin).to_have_attribute("aria-valuetext", re.compile(r"latitude .*, longitude "))
    box = console.page.locator(".map").bounding_box()
    assert box is not None
    console.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    console.page.mouse.down()
    console.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    console.page.mouse.up()
    assert float(console.field("Latitude").input_value()) == pytest.approx(39.7, abs=0.3)
    console.settled()
    console.prediction()


def test_a_prediction_is_explained_feature_by_feature(console: Console, server: Server, example: Row) -> None:
    headers = {"X-API-Key": API_KEY}
    answer = HTTP.post(f"{server.url}/predict/explain", json=example, headers=headers).json()
    explanation = answer["explanation"]
    rows = console.page.locator(".waterfall tbody tr")
    expect(rows).to_have_count(2 + len(explanation["contributions"]))
    for row, one in zip(rows.all()[1:-1], explanation["contributions"], strict=True):
        expect(row.get_by_role("rowheader")).to_contain_text(one["feature"])
        shown = row.locator(".amount").inner_text().replace(MINUS, "-")
        assert float(shown) == pytest.approx(one["contribution"], rel=1e-3)
    expect(rows.first).to_contain_text(f"{explanation['base_value']:.4g}")
    expect(rows.last).to_contain_text(f"{explanation['raw_score']:.4g}")


def test_a_curve_shows_the_prediction_for_other_values(console: Console, server: Server, example: Row) -> None:
    page = console.page
    chart = page.locator(".curve svg")
    expect(chart).to_have_accessible_name(re.compile("^Prediction by MedInc: from "))
    explained, curve = "**/predict/explain?*", "**/predict/curve?*"
    with page.expect_response(explained) as answer, page.expect_request(curve) as asked:
        console.field("MedInc").fill("4.5")
    assert asked.value.headers["x-request-id"] == answer.value.json()["request_id"]  # so the same version gives both
    console.field("MedInc").fill(str(example["MedInc"]))
    console.settled()
    page.locator(".waterfall").get_by_role("button", name="AveOccup").click()
    expect(page.locator("#curve-feature")).to_have_value("AveOccup")
    expect(chart).to_have_accessible_name(re.compile("^Prediction by AveOccup: from "))
    page.locator(".curve summary").click()
    values = page.get_by_role("region", name="Prediction by AveOccup").get_by_role("row")
    expect(values.nth(0)).to_have_text("AveOccupPredictionLowerUpper")
    assert values.count() > 20
    box = chart.bounding_box()
    assert box is not None
    chart.click(position={"x": box["width"] * 0.6, "y": 50})
    expect(console.field("AveOccup")).not_to_have_value(str(example["AveOccup"]))
    console.settled()
    taken = float(console.field("AveOccup").input_value())
    assert console.prediction() == pytest.approx(predicted(server, example | {"AveOccup": taken}), rel=1e-3)
    page.locator("#curve-feature").select_option("MedInc")


@pytest.mark.slow
def test_a_service_that_cannot_explain_says_why(open_page: Open) -> None:
    opened = open_page()
    reason = "The model has too many leaves."
    opened.page.route("**/predict/explain*", lambda route: route.fulfill(status=501, json={"detail": reason}))
    opened.page.route("**/predict/curve*", lambda route: route.fulfill(status=404, json={"detail": "No such route."}))
    opened.give_key()
    assert opened.prediction() > 0
    expect(opened.page.locator(".why")).to_contain_text(f"No explanation: {reason}")
    expect(opened.page.locator(".curve")).to_contain_text("No curve: this service does not offer it.")


def test_views_are_tabs_for_the_keyboard(console: Console) -> None:
    page = console.page
    page.get_by_role("tab", name="Try").focus()
    for key, view in (("ArrowRight", "model"), ("ArrowRight", "live"), ("End", "data"), ("ArrowRight", "try")):
        page.keyboard.press(key)
        expect(page.locator(f"#tab-{view}")).to_be_focused()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        assert page.url.endswith(f"#{view}")
    page.go_back()
    expect(page.locator("#view-data")).to_be_visible()


def test_live_figures_move_and_the_log_needs_the_operator_s_key(console: Console, server: Server, example: Row) -> None:
    panel = console.show("live")
    expect(panel.locator(".tile-value").first).to_have_text(NUMBER)
    for _ in range(5):
        predicted(server, example)
    expect(panel.locator(".facts")).to_contain_text(re.compile(r"Rows predicted since the start\s*[1-9]"))
    expect(panel).to_contain_text(re.compile("not enough rows|rows of the last"))
    panel.get_by_role("button", name="Show them").click()
    console.give_key(ADMIN_API_KEY)
    expect(panel.get_by_role("region", name="Last predictions")).to_contain_text("MedInc")


def test_a_csv_file_is_predicted_and_its_faulty_rows_are_named(console: Console, example: Row, tmp_path: Path) -> None:
    names = ",".join(example)
    rows = [
        ",".join(str(value) for value in (example | {"MedInc": 1 + number / 1000}).values()) for number in range(5200)
    ]
    rows[7] = rows[7].replace("34.26", "134.26")
    rows[5_101] = '"' + rows[5_101].replace(",", '","') + '"'
    rows[5_102] = "x" + rows[5_102]
    path = tmp_path / "houses.csv"
    path.write_text("\r\n".join([names, *rows]) + "\r\n")
    panel = console.show("data")
    panel.locator("#file").set_input_files(path)
    expect(panel.get_by_role("status")).to_have_text("5,198 rows of houses.csv predicted, 2 refused.")
    faults = panel.get_by_role("region", name="Rows that were refused")
    expect(faults.get_by_role("row").nth(1)).to_have_text(re.compile(r"8\s*Latitude"))
    expect(faults.get_by_role("row").nth(2)).to_have_text(re.compile(r"5,103\s*MedInc"))
    with console.page.expect_download() as download:
        panel.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "houses-predictions.csv"
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == f"{names},prediction,lower,upper"
    assert len(lines) == 5_201
    assert lines[8] == f"{rows[7]},,,"
    assert re.fullmatch(re.escape(rows[5_100]) + r",[\d.]+,[\d.]+,[\d.]+", lines[5_101])


@pytest.mark.slow
def test_a_parquet_file_is_predicted_whole_and_other_files_are_refused(
    console: Console, server: Server, example: Row, tmp_path: Path
) -> None:
    path = tmp_path / "houses.parquet"
    pq.write_table(pa.table({name: [value, value] for name, value in example.items()}), path)
    panel = console.show("data")
    panel.locator("#file").set_input_files(path)
    with console.page.expect_download() as download:
        panel.get_by_role("link", name="Download").click()
    table = pq.read_table(download.value.path())
    assert table["prediction"].to_pylist() == [predicted(server, example)] * 2
    for name, content, fault in (
        ("letters.csv", b"a,b\n1,2\n", "The columns are not the model's features."),
        ("empty.csv", b"", "The file is empty."),
        ("bytes.csv", b"MedInc\n\xff\xfe\n", "The file is not text in UTF-8."),
        ("text.parquet", b"no parquet", "arquet"),
    ):
        panel.locator("#file").set_input_files({"name": name, "mimeType": "text/plain", "buffer": content})
        expect(panel.get_by_role("alert")).to_contain_text(fault)


def test_no_view_is_too_wide_for_a_phone(console: Console) -> None:
    console.page.set_viewport_size({"width": 320, "height": 900})
    for view in VIEWS:
        console.show(view)
        assert not console.is_too_wide(), view
    console.page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1600, "light")])
def test_no_view_is_too_wide_or_hard_to_use(open_page: Open, width: int, scheme: Scheme) -> None:
    opened = open_page(width, scheme)
    opened.give_key()
    opened.prediction()
    for view in VIEWS:
        opened.show(view)
        if view == "model":
            expect(opened.page.locator("#view-model .card").first).to_be_visible()
        opened.page.wait_for_timeout(50)
        assert not opened.is_too_wide(), view
        assert opened.violations() == [], view


def test_the_page_is_painted_at_once(console: Console, record_property: Callable[[str, object], None]) -> None:
    console.prediction()
    paint = console.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    size = console.page.evaluate(
        "performance.getEntriesByType('resource').filter(e => e.name.includes('/console/'))"
        ".reduce((sum, e) => sum + e.encodedBodySize, 0)"
    )
    record_property("first_contentful_paint_ms", paint)
    print(f"first contentful paint after {paint:.0f} ms, {size / 1000:.0f} KB of scripts, styles and pictures")
    assert 0 < paint < 5000  # what a busy machine takes; half a second is the aim
