"""Two workers are one service: whichever a request comes to, and whichever hangs or is killed."""

import contextlib
import signal
import time
from collections.abc import Generator, Iterator
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.shelf import ROW
from tests.support import HTTP, eventually
from tests.watch import KEY, Sender
from tests.workers.conftest import Pair, answer, sample


def order(client: httpx.Client, **version: str | None) -> httpx.Response:
    """An order of the operator to one worker."""
    return client.post("/health/model/reload", headers={"X-API-Key": KEY}, json=version or None)


def predicted(client: httpx.Client) -> float:
    return sample(client, "predictions_total", model_name="pair", model_version="1", prediction_type="single")


def test_a_pin_reaches_both_before_it_is_answered_by_either(pair: Pair) -> None:
    leader, follower = pair.workers()
    first, second = (("1", pair.shelf.predictions["1"]), ("2", pair.shelf.predictions["2"]))
    assert pair.answers_of_each() == [first, first]
    with pair.via(leader) as one, pair.via(follower) as other:
        for taker, version, expected in ((other, "2", second), (one, None, first)):
            told = order(taker, version=version)
            assert (told.status_code, told.json()["version"], told.json()["reason"]) == (200, expected[0], None)
            assert [answer(client) for client in (one, other)] == [expected, expected]
            assert [client.get("/health/model").json()["pinned"] for client in (one, other)] == [version, version]


def test_a_scrape_of_either_is_the_sum_of_both_and_never_shrinks(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(leader) as one, pair.via(follower) as other:
        before = predicted(one)
        for client in (one, other, other):
            answer(client)
        assert [predicted(client) for client in (one, other)] == [before + 3, before + 3]
        memory = sum(worker.memory_info().rss for worker in pair.workers())
        assert 0.7 < sample(other, "process_resident_memory_bytes") / memory < 1.4
        for hanging, client in ((leader, other), (follower, one)):
            with pair.hanging(hanging):
                started = time.monotonic()
                assert predicted(client) == before + 3
                assert time.monotonic() - started < 5
                assert sample(client, "workers", state="missing") == 1
    own = HTTP.get(f"http://127.0.0.1:{pair.prometheus_port}/metrics", timeout=20).text
    assert {family.name for family in text_string_to_metric_families(own)} >= {"predictions", "model_info", "workers"}


@contextlib.contextmanager
def watching(client: httpx.Client) -> Generator[Iterator[dict[str, Any]]]:
    """What a viewer of the console is sent."""
    with client.stream("GET", "/console/live") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        yield (msgspec.json.decode(line.removeprefix("data: ")) for line in lines)


def test_the_console_shows_the_figures_of_both_whichever_it_is_connected_to(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(leader) as one, pair.via(follower) as other:
        for client in (one, other, other):
            answer(client)
        rows = predicted(one)  # of each client, its one connection is the stream's from here on
        with watching(one) as leaders, watching(other) as followers:

            def same() -> bool:  # on a busy machine, where one does not answer another within a second, not at once
                first, second = next(leaders), next(followers)
                is_same = (first["started"], first["digest"]) == (second["started"], second["digest"])
                return is_same and first["rows"] == second["rows"] >= rows > 0

            eventually(same)


@pytest.mark.slow
def test_the_console_shows_the_figures_of_one_while_the_leader_hangs(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(follower) as other, watching(other) as followers:
        first = next(followers)
        with pair.hanging(leader):
            alone = next(figures for figures in followers if figures["started"] != first["started"])
    assert (alone["rows"], alone["digest"]) == (first["rows"], first["digest"])


def test_rows_of_both_are_written_by_one_process(pair: Pair) -> None:
    sent: set[str] = set()
    for worker in pair.workers():
        with pair.via(worker) as client:
            sent |= {client.post("/predict", json=ROW).headers["x-request-id"] for _ in range(5)}

    def logged() -> set[str]:
        page = HTTP.get(f"{pair.url}/predictions", headers={"X-API-Key": KEY}, params={"limit": 1000}).json()
        return {row["request_id"] for row in page["predictions"]}

    eventually(lambda: sent <= logged(), process=pair)
    running = [child.cmdline() for child in psutil.Process(pair.popen.pid).children(recursive=True)]
    for module in ("app.prediction_log.writer", "app.models.process.worker"):
        assert sum(module in command for command in running) <= 1


def test_drift_is_counted_for_both(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(leader) as one, pair.via(follower) as other:

        def counted(client: httpx.Client) -> int:
            report = client.get("/drift").json()
            return report["collected_rows"] + report["rows"]

        before, few = counted(one), 50  # rows of other tests may come meanwhile
        for client in (one, other):
            assert client.post("/predict/batch", json={"predictions": [ROW] * 100}).status_code == 200
        eventually(lambda: all(200 <= counted(client) - before < 200 + few for client in (one, other)), timeout=30)


def test_a_limit_of_a_client_is_one_of_both(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(leader) as one, pair.via(follower) as other:

        def steps() -> list[int]:
            left = [
                int(client.post("/predict", json=ROW).headers["ratelimit-remaining"]) for client in (one, other) * 2
            ]
            return [before - after for before, after in pairwise(left)]

        eventually(lambda: steps() == [1, 1, 1], timeout=20)  # unless a minute begins meanwhile


def test_an_unloaded_model_is_so_in_both_until_it_is_loaded(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(leader) as one, pair.via(follower) as other:
        for client, what, status in ((other, "unload", 503), (one, "load", 200)):
            told = client.post(f"/v2/repository/models/{pair.shelf.name}/{what}", headers={"X-API-Key": KEY})
            assert told.status_code == 200
            assert [taker.post("/predict", json=ROW).status_code for taker in (one, other)] == [status, status]
        assert other.get(f"/health/model/{pair.shelf.name}").json()["version"] == "1"


@pytest.mark.slow
def test_a_canary_reaches_both(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(leader) as one, pair.via(follower) as other:
        for version in ("2", None):
            if version is not None:
                pair.shelf.point("next", version)
            else:
                pair.shelf.client.delete_registered_model_alias(pair.shelf.name, "next")
            assert order(other).json()["outcome"] == "unchanged"
            assert one.get("/health/model").json()["canary"]["version"] == version
            with pair.hanging(leader):  # so that it is the other's own report
                assert other.get("/health/model").json()["canary"]["version"] == version


@pytest.mark.slow
def test_orders_are_refused_while_the_leader_hangs_and_predictions_go_on(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.via(leader) as one, pair.via(follower) as other:
        with pair.hanging(leader):
            started = time.monotonic()
            assert answer(other)[0] == "1"
            told = order(other)
            assert (told.status_code, told.headers["Retry-After"]) == (503, "5")
            assert time.monotonic() - started < 5
            eventually(lambda: "leader_silent" in str(other.get("/health/detailed").json()["reasons"]))
        with pair.hanging(follower):
            told = order(one)
            assert (told.json()["outcome"], told.json()["reason"]) == ("unchanged", None)
            eventually(lambda: "hangs" in str(one.get("/health").json()["problems"]))
            assert order(one, version="2").json()["reason"] == "1 of 2 workers does not serve it so far"
        order(one, version=None)


@pytest.mark.slow
def test_killed_workers_are_replaced_and_nothing_that_was_counted_is_lost(pair: Pair) -> None:
    leader, follower = pair.workers()
    before = pair.count("predictions_total", model_name="pair", model_version="1", prediction_type="single")
    follower.kill()
    eventually(lambda: follower not in pair.workers())
    pair.wait_whole()
    assert pair.count("predictions_total", model_name="pair", model_version="1", prediction_type="single") == before
    with Sender(pair) as sender:
        sender.goes_on()
        leader.kill()
        sender.goes_on(50)
    statuses = [one.status for one in sender.answers]
    assert set(statuses) <= {0, 200}
    assert statuses.count(0) <= 1  # the one that the killed worker was answering, if it was that one
    eventually(lambda: leader not in pair.workers())
    pair.wait_whole()
    assert pair.reload().json()["outcome"] == "unchanged"
    assert pair.count("predictions_total", model_name="pair", model_version="1", prediction_type="single") >= before


@pytest.mark.slow
def test_a_worker_that_hangs_for_long_is_killed_and_replaced(pair: Pair) -> None:
    # The last test here: a worker that ends within six seconds of its start ends the service.
    leader, follower = pair.workers()
    leader.send_signal(signal.SIGSTOP)
    eventually(lambda: pair.leads(follower), timeout=60)
    assert leader not in pair.wait_whole().workers()
