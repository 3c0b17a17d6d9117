"""Two workers are one service: whichever a request comes to, and whichever hangs or is killed."""

import time

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.shelf import ROW
from tests.support import HTTP, eventually
from tests.watch import KEY, Sender
from tests.workers.conftest import Pair


def test_a_pin_and_its_end_reach_both_before_they_are_answered(pair: Pair) -> None:
    first, second = (("1", pair.shelf.predictions["1"]), ("2", pair.shelf.predictions["2"]))
    assert pair.answers_of_each() == [first, first]
    told = pair.reload(version="2")
    assert (told.status_code, told.json()["version"], told.json()["reason"]) == (200, "2", None)
    assert pair.answers_of_each() == [second, second]
    assert pair.model()["pinned"] == "2"
    assert pair.reload(version=None).json()["version"] == "1"
    assert pair.answers_of_each() == [first, first]


@pytest.mark.slow
def test_a_canary_reaches_both(pair: Pair) -> None:
    pair.shelf.point("next", "2")
    assert pair.reload().json()["outcome"] == "unchanged"
    assert pair.model()["canary"]["version"] == "2"
    follower = pair.workers()[1]
    with pair.only(follower):
        assert pair.model()["canary"]["version"] == "2"  # its own report, since the leader hangs
    pair.shelf.client.delete_registered_model_alias(pair.shelf.name, "next")
    pair.reload()
    with pair.only(follower):
        assert pair.model()["canary"]["version"] is None


def test_a_scrape_of_either_is_the_sum_of_both_and_never_shrinks(pair: Pair) -> None:
    def predicted() -> float:
        return pair.count("predictions_total", model_version="1", prediction_type="single")

    before = predicted()
    for worker in pair.workers():
        with pair.only(worker):
            for _ in range(3):
                pair.answers()
    assert predicted() == before + 6
    with pair.only(pair.workers()[1]):  # the leader hangs
        started = time.monotonic()
        assert predicted() == before + 6
        assert time.monotonic() - started < 5
        assert pair.metric("workers", state="missing") == 1
    memory = sum(worker.memory_info().rss for worker in pair.workers())
    assert 0.7 < pair.count("process_resident_memory_bytes") / memory < 1.4
    own = HTTP.get(f"http://127.0.0.1:{pair.prometheus_port}/metrics", timeout=20).text
    assert {family.name for family in text_string_to_metric_families(own)} >= {"predictions", "model_info", "workers"}


@pytest.mark.slow
def test_orders_are_refused_while_the_leader_hangs_and_predictions_go_on(pair: Pair) -> None:
    leader, follower = pair.workers()
    with pair.only(follower):
        started = time.monotonic()
        assert pair.answers()[0] == "1"
        told = pair.reload()
        assert (told.status_code, told.headers["Retry-After"]) == (503, "5")
        assert time.monotonic() - started < 5
        eventually(
            lambda: "leader_silent" in [r["code"] for r in HTTP.get(f"{pair.url}/health/detailed").json()["reasons"]]
        )
    with pair.only(leader):
        assert pair.reload().json()["outcome"] == "unchanged"
        eventually(lambda: "hangs" in str(HTTP.get(f"{pair.url}/health").json()["problems"]))


def test_rows_of_both_are_written_by_one_process(pair: Pair) -> None:
    sent: set[str] = set()
    for worker in pair.workers():
        with pair.only(worker):
            sent |= {HTTP.post(f"{pair.url}/predict", json=ROW).headers["x-request-id"] for _ in range(5)}

    def logged() -> set[str]:
        page = HTTP.get(f"{pair.url}/predictions", headers={"X-API-Key": KEY}, params={"limit": 1000}).json()
        return {row["request_id"] for row in page["predictions"]}

    eventually(lambda: sent <= logged(), process=pair)
    running = [child.cmdline() for child in psutil.Process(pair.popen.pid).children(recursive=True)]
    for module in ("app.prediction_log.writer", "app.models.registry.worker"):
        assert sum(module in command for command in running) <= 1


@pytest.mark.slow
def test_killed_workers_are_replaced_and_nothing_that_was_counted_is_lost(pair: Pair) -> None:
    leader, follower = pair.workers()
    before = pair.count("predictions_total", model_version="1", prediction_type="single")
    follower.kill()
    pair.wait_whole()
    assert pair.count("predictions_total", model_version="1", prediction_type="single") >= before
    with Sender(pair) as sender:
        sender.goes_on()
        leader.kill()
        sender.goes_on(50)
    statuses = [answer.status for answer in sender.answers]
    assert set(statuses) <= {0, 200}
    assert statuses.count(0) <= 1  # the one that the killed worker was answering, if it was that one
    pair.wait_whole()
    assert leader not in pair.workers()
    assert pair.reload().json()["outcome"] == "unchanged"
    after = pair.count("predictions_total", model_version="1", prediction_type="single")
    assert after >= before


def test_drift_is_counted_for_both(pair: Pair) -> None:
    def counted() -> float:
        report = HTTP.get(f"{pair.url}/drift", timeout=5).json()
        return report["collected_rows"] + report["rows"]

    before = counted()
    for worker in pair.workers():
        with pair.only(worker):
            pair.answers()
    eventually(lambda: counted() == before + 2)


def test_a_limit_of_a_client_is_one_of_both(pair: Pair) -> None:
    def left() -> int:
        return int(HTTP.post(f"{pair.url}/predict", json=ROW).headers["ratelimit-remaining"])

    def seen() -> list[int]:
        before = left()
        found: list[int] = []
        for worker in pair.workers():
            with pair.only(worker):
                found.append(before - left())
        return found

    eventually(lambda: seen() == [1, 2], timeout=20)  # unless a minute begins meanwhile
