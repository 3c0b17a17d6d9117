"""Versions that must not be served: each is refused with its reason while the one before goes on to answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from tests.faults import FaultProxy
from tests.models.support import (
    NAMES,
    altered,
    changed,
    numbers,
    save_booster,
    save_referring,
    tiny_booster,
    with_booster,
)
from tests.shelf import ALIAS, Shelf, booster
from tests.support import eventually
from tests.watch import Sender, Watched

pytestmark = pytest.mark.slow


class Scene(NamedTuple):
    """A server that serves a model from a registry behind a proxy, and that model's directory."""

    proxy: FaultProxy
    shelf: Shelf
    server: Watched


@pytest.fixture(scope="module")
def running(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("refusals")
    shelf = Shelf(mlflow_server, "refusals", directory)
    shelf.good()
    with FaultProxy(mlflow_server) as proxy, Watched(directory, proxy.url, shelf.name) as server:
        yield Scene(proxy, shelf, server.wait_ready())


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    """All is well before a test; after it, however it ended, the alias is at a version that can be served."""
    running.server.becomes(stale=False, status="healthy")
    yield running
    running.proxy.fault = None
    running.shelf.point(ALIAS, running.server.model()["version"])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A model directory that is to be spoilt."""
    return save_booster(booster(99), tmp_path / "good")


def named(data: str) -> Callable[[Path, Path], Path]:
    def build(good: Path, destination: Path) -> Path:
        flavors = yaml.safe_load((good / "MLmodel").read_bytes())["flavors"]
        return altered(good, destination, flavors=flavors | {"lightgbm": flavors["lightgbm"] | {"data": data}})

    return build


def with_other_features(_: Path, destination: Path) -> Path:
    names = ("income", "rooms", "distance")
    model = tiny_booster(feature_name=names)
    return save_booster(model, destination, signature=numbers(*names), input_example=None)


def with_another_signature(good: Path, destination: Path) -> Path:
    return altered(good, destination, signature=numbers("income", "rooms", "distance").to_dict())


def with_a_booster_that_is_not_its_plans(_: Path, destination: Path) -> Path:
    planned = save_referring(destination.with_name("planned"), booster=booster(98).model_to_string())
    # Optional, since values may be missing in requests to the model in use.
    columns = Schema([ColSpec("double", name, required=False) for name in NAMES])
    return altered(planned, destination, signature=ModelSignature(columns).to_dict())


def with_leaves_that_are_no_numbers(good: Path, destination: Path) -> Path:
    text = booster(97).model_to_string()
    count = len(text.split("leaf_value=", 1)[1].split("\n", 1)[0].split())
    return with_booster(changed(text, "leaf_value", " ".join(["nan"] * count)), good, destination)


def with_half_a_booster(good: Path, destination: Path) -> Path:
    text = booster(96).model_to_string()
    return with_booster(text[: text.index("end of trees") // 2], good, destination)


def without_a_booster(good: Path, destination: Path) -> Path:
    directory = altered(good, destination)
    (directory / "model.lgb").unlink()
    return directory


REFUSED = {
    "other features": (with_other_features, "interface", "it does not take 'age'"),
    "a signature that is not the booster's": (
        with_another_signature,
        "agreement",
        "the signature's columns income, rooms, distance are not the booster's features income, rooms, age",
    ),
    "a booster that is not the plan's": (
        with_a_booster_that_is_not_its_plans,
        "agreement",
        "the plan makes 5 features, the booster takes 3",
    ),
    "leaves that are no numbers": (
        with_leaves_that_are_no_numbers,
        "artifact",
        "tree 0 of the booster has a leaf value that is not a number",
    ),
    "half a booster": (
        with_half_a_booster,
        "artifact",
        "the booster's text is cut or damaged at tree 1 of 3",
    ),
    "no booster": (without_a_booster, "artifact", "the model has no file 'model.lgb'"),
    "a name that leads up": (
        named("../../../../../../../etc/passwd"),
        "artifact",
        "the model's file '../../../../../../../etc/passwd' is outside its directory",
    ),
    "an absolute name": (named("/etc/passwd"), "artifact", "the model's file '/etc/passwd' is outside its directory"),
}


@pytest.mark.parametrize(
    ("build", "check", "reason"),
    [pytest.param(*case, id=name) for name, case in REFUSED.items()],
)
def test_a_bad_version_is_refused_and_the_next_good_one_served(
    scene: Scene, good: Path, tmp_path: Path, build: Callable[[Path, Path], Path], check: str, reason: str
) -> None:
    server, shelf = scene.server, scene.shelf
    before, refusals = server.model()["version"], server.count("model_refusals_total", role="current", check=check)
    with Sender(server) as sender:
        bad = shelf.publish(build(good, tmp_path / "bad"))
        told = server.becomes(last_refresh__outcome="refused", last_refresh__version=bad)
        sender.goes_on()
        assert (told["version"], told["status"], told["stale"]) == (before, "degraded", False)
        assert server.count("model_refusals_total", role="current", check=check) > refusals
        assert reason in told["last_refresh"]["reason"]
        assert told["last_refusal"]["version"] == bad
        (look_up,) = told["look_ups"]
        assert look_up == {
            "rule": "alias champion",
            "outcome": "refused",
            "version": bad,
            "reason": told["last_refresh"]["reason"],
        }
        after = shelf.good()
        server.becomes(version=after, status="healthy")
        sender.goes_on()
    assert sender.versions(shelf.predictions) == [before, after]


def test_a_download_that_is_cut_off_is_tried_again(scene: Scene) -> None:
    server, shelf, before = scene.server, scene.shelf, scene.server.model()["version"]
    with Sender(server) as sender:
        scene.proxy.fault = "truncate"
        version = shelf.good()
        # Not stale for a moment at each look, which answers before the download breaks off.
        told = server.becomes(last_refresh__outcome="registry_unreachable", last_refresh__version=version, stale=True)
        sender.goes_on()
        assert told["last_refresh"]["reason"] == "connection closed"
        assert told["version"] == before
        eventually(lambda: server.metric("model_stale") == 1)
        scene.proxy.fault = None
        server.becomes(version=version, stale=False, status="healthy")
        sender.goes_on()
    assert sender.versions(shelf.predictions) == [before, version]


@pytest.mark.parametrize("tagged", [True, False], ids=["with its digest", "without a digest"])
def test_a_corrupted_download_is_refused_until_it_arrives_whole(scene: Scene, tagged: bool) -> None:
    server, shelf, before = scene.server, scene.shelf, scene.server.model()["version"]
    check = "digest" if tagged else "artifact"
    refusals = server.count("model_refusals_total", role="current", check=check)
    with Sender(server) as sender:
        scene.proxy.fault = "corrupt"
        version = shelf.good(tagged=tagged)
        told = server.becomes(last_refresh__outcome="refused", last_refresh__version=version)
        sender.goes_on()
        assert (told["version"], told["stale"], told["status"]) == (before, False, "degraded")
        assert ("and should begin with" in told["last_refresh"]["reason"]) == tagged
        assert server.count("model_refusals_total", role="current", check=check) > refusals
        scene.proxy.fault = None
        server.becomes(version=version, status="healthy")
        sender.goes_on()
    assert sender.versions(shelf.predictions) == [before, version]


def test_a_version_whose_digest_is_not_that_of_its_tag_is_refused(scene: Scene) -> None:
    server, shelf, before = scene.server, scene.shelf, scene.server.model()["version"]
    refusals = server.count("model_refusals_total", role="current", check="digest")
    with Sender(server) as sender:
        bad = shelf.publish(shelf.model(booster(95).model_to_string()), digest="0" * 64)
        told = server.becomes(last_refresh__outcome="refused", last_refresh__version=bad)
        sender.goes_on()
    assert "and should begin with '000000000000'" in told["last_refresh"]["reason"]
    assert server.count("model_refusals_total", role="current", check="digest") > refusals
    assert sender.versions(shelf.predictions) == [before]
