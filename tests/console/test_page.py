"""Who gets the page at `/` and its files, and with which headers."""

import re
from typing import Any

import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.console.facts import map_of
from app.console.page import POLICY, page_files, prefers_html
from app.feature import Feature
from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from kernels.plan.plan import Input, Neighbours, Plan, References
from tests.routes.support import ask, client_of
from tests.support import Client, problem

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

HOST = (b"host", b"test")


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("application/json;q=0.5, text/html", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("image/png", False),
    ],
)
def test_html_is_sent_to_whoever_prefers_it(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


async def test_browsers_get_the_page_and_all_others_the_index(client: Client) -> None:
    page = await client.get("/", headers={"Accept": BROWSER})
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["vary"] == "Accept"
    index = await client.get("/")
    assert index.json() == (await client.get("/openapi.json")).json()
    assert index.headers["vary"] == "Accept, Accept-Encoding"
    status, headers, body = await ask(client, [HOST, (b"accept", BROWSER.encode())], path="/", method="HEAD")
    assert (status, body) == (200, b"")
    assert headers[b"content-type"].startswith(b"text/html")


async def test_the_page_may_load_nothing_from_elsewhere(client: Client) -> None:
    for path in ("/", "/console/main.js", "/console/console.css", "/console/icon.svg"):
        answer = await client.get(path, headers={"Accept": BROWSER})
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= {
        *POLICY.split("; ")
    }
    page = page_files()["index.html"].content.decode()
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:|https?:", page) == []
    assert re.findall(r"<script[^>]*>(?=[^<])", page) == []


def test_all_addresses_are_relative_so_that_a_proxy_may_put_a_prefix_before_them() -> None:
    page = page_files()["index.html"].content.decode()
    assert [url for url in re.findall(r'(?:src|href)="([^"]+)"', page) if url.startswith("/")] == []
    for name, file in page_files().items():
        if name.endswith(".js"):
            assert re.findall(r"""(?:fetch|ask|send|report|EventSource)\(['"`]/""", file.content.decode()) == []


async def test_a_file_is_sent_again_only_when_it_has_changed(client: Client) -> None:
    for path in ("/", "/console/main.js"):
        first = await client.get(path, headers={"Accept": BROWSER})
        assert first.headers["cache-control"] == "no-cache"
        again = {"Accept": BROWSER, "If-None-Match": f'"other", {first.headers["etag"]}'}
        second = await client.get(path, headers=again)
        assert (second.status_code, second.content) == (304, b"")
        assert second.headers["etag"] == first.headers["etag"]
        third = await client.get(path, headers={"Accept": BROWSER, "If-None-Match": '"other"'})
        assert third.status_code == 200


@pytest.mark.parametrize("path", ["/console/absent.js", "/console/..%2fpage.py", "/console/", "/console"])
async def test_nothing_but_the_page_s_files_is_served(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    problem(answer)


async def test_files_are_counted_under_one_name(own_client: Client) -> None:
    for name in ("main.js", "console.css", "absent.js"):
        await own_client.get(f"/console/{name}")
    metrics = (await own_client.get("/metrics")).text
    assert set(re.findall(r'api_requests_total\{endpoint="(/console[^"]*)"', metrics)) == {"/console/{file:str}"}


async def test_the_console_can_be_switched_off(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, console=False)) as client:
        page = await client.get("/", headers={"Accept": BROWSER})
        assert page.headers["content-type"] == "application/vnd.oai.openapi+json"
        assert page.headers["vary"] == "Accept-Encoding"
        for path in ("/console/main.js", "/console/live", "/console/model"):
            assert (await client.get(path)).status_code == 404


def test_the_page_weighs_less_than_200_kilobytes() -> None:
    assert sum(len(file.content) for file in page_files().values()) <= 200_000


async def test_the_map_has_what_the_feature_plan_knows(client: Client) -> None:
    facts = (await client.get("/console/model")).json()
    assert facts["outputs"] == 1
    assert facts["checks"] == ["digest", "artifact", "agreement", "kernels", "prediction"]
    assert facts["reference"]["numbers"].keys() == {feature["name"] for feature in await features(client)}
    found = facts["map"]
    assert (found["latitude"], found["longitude"]) == ("Latitude", "Longitude")
    assert found["south_north"] == [32.54, 41.95]
    assert found["lines"][0][0] == "Coast"
    assert ["Los Angeles", 34.05, -118.25] in found["places"]
    assert found["rows"] is None


def test_the_map_has_where_the_stored_rows_are() -> None:
    names, ends = ("lat", "LNG"), (-5.0, 5.0)
    near = Neighbours(output="near", inputs=names, scales=(1.0, 1.0), counts=(3,))
    plan = Plan(
        inputs=tuple(Input(name=name) for name in names),
        references=References(rows=50, columns=(*names, "target"), steps=(near,)),
        outputs=(*names, "near_mean_3"),
    )
    features = tuple(Feature(name=name, training_range=ends) for name in names)
    artifact = read_artifact(BUNDLED / "model")
    table = np.random.default_rng(1).normal(size=(50, 3))
    found = map_of(msgspec.structs.replace(artifact, plan=plan, table=table, features=features))
    assert found is not None
    assert (found.latitude, found.longitude, found.west_east) == (*names, ends)
    assert found.rows is not None
    assert sum(count for _, _, count in found.rows.cells) == 50
    for others in (tuple(Feature(name=name) for name in names), (Feature(name="income", training_range=ends),)):
        assert map_of(msgspec.structs.replace(artifact, features=others)) is None


async def test_there_are_no_facts_without_a_model(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, model_name="unknown")) as client:
        answer = await client.get("/console/model")
        assert answer.status_code == 503
        problem(answer)


async def features(client: Client) -> list[dict[str, Any]]:
    return (await client.get("/predict/model/info")).json()["features"]


async def test_the_card_of_the_model_is_shown_with_its_pictures(client: Client) -> None:
    card = (await client.get("/console/card")).json()
    assert (card["title"], card["data"]["target"]) == ("California Housing prices", "MedHouseVal")
    (picture,) = card["pictures"]
    answer = await client.get(f"/console/card/{picture['file']}")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content.startswith(b"\x89PNG")
    assert (await client.get("/console/card/error_map.png")).status_code == 404


async def test_a_model_without_a_registry_has_no_card(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, model_path=str(BUNDLED / "model"))) as client:
        assert (await client.get("/console/card")).json() is None
