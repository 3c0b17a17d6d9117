"""Two services on one registry, behind a proxy: both follow what is done to the model, and no request fails."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import Fault, FaultProxy
from tests.fleet import REPLICA, RoundRobin
from tests.shelf import ALIAS, Shelf
from tests.support import HTTP, Server
from tests.watch import KEY, Sender, Watched

PIN = "pinned"


class Steps:
    """What is done to the model, one thing after the other, and how soon both services answer as they should."""

    def __init__(self, sender: Sender, shelf: Shelf) -> None:
        self._sender = sender
        self._shelf = shelf
        self.lines = [f"{'':34}{'both after':>12}{'requests':>10}{'failed':>8}"]

    def step(self, name: str, act: Callable[[], object], version: str) -> None:
        """Do something, and wait until both services answer with a version, and go on doing so."""
        first, start = len(self._sender.answers), time.monotonic()
        act()
        followed: dict[str, float] = {}
        seen = first
        while len(followed) < 2:
            assert time.monotonic() < start + 60, f"{name}: only {sorted(followed)} followed"
            time.sleep(0.002)
            for answer in self._sender.answers[seen:]:
                seen += 1
                if answer.version == version:
                    followed.setdefault(answer.headers[REPLICA], time.monotonic() - start)
        self._sender.goes_on(40)
        answers = self._sender.answers[first:]
        assert {answer.version for answer in answers[-20:]} == {version}, name
        wrong = [
            answer for answer in answers
            if answer.status != 200 or answer.prediction != self._shelf.predictions[str(answer.version)]
        ]  # fmt: skip
        self.lines.append(f"{name:34}{max(followed.values()):10.2f} s{len(answers):10}{len(wrong):8}")
        assert wrong == [], name


@pytest.mark.slow
def test_two_services_behind_a_proxy_follow_pins_reloads_and_aliases(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "fleet", tmp_path)
    first, second = shelf.good(), shelf.good(alias=None)
    directories = [tmp_path / name for name in ("a", "b")]
    for directory in directories:
        directory.mkdir()
    with FaultProxy(mlflow_server) as registry:
        a, b = (Watched(directory, registry.url, shelf.name, MODEL_PIN_ALIAS=PIN) for directory in directories)
        with a, b, RoundRobin([a.wait_ready(), b.wait_ready()]) as proxy, Sender(proxy) as sender:
            steps = Steps(sender, shelf)

            def reload(server: Server | RoundRobin = proxy, **order: str | None) -> None:
                url = f"{server.url}/health/model/reload"
                answer = HTTP.post(url, headers={"X-API-Key": KEY}, json=order or None, timeout=40)
                assert answer.status_code == 200, answer.text
                assert answer.json()["outcome"] in ("swapped", "unchanged"), answer.text

            def both_pin() -> None:
                reload(a, version=first)
                reload(b, version=second)

            def pin_in_vain(fault: Fault, outcome: str) -> None:
                registry.fault = fault
                url = f"{proxy.url}/health/model/reload"
                told = HTTP.post(url, headers={"X-API-Key": KEY}, json={"version": first}, timeout=40).json()
                assert told["outcome"] == outcome
                assert "nothing changes until a look finds that MODEL_PIN_ALIAS has moved" in told["reason"]
                registry.fault = None

            steps.step("alias champion moves to 2", lambda: shelf.point(ALIAS, second), second)
            steps.step("pin of 1, sent to one of them", lambda: reload(version=first), first)
            steps.step("reload, 1 being pinned", reload, first)
            steps.step("pin of 1 at a, then of 2 at b", both_pin, second)
            steps.step("pin of 1 by hand, in MLflow", lambda: shelf.point(PIN, first), first)
            steps.step("pin's end, sent to one of them", lambda: reload(version=None), second)
            steps.step("pin of 1, the registry away", lambda: pin_in_vain("refuse", "registry_unreachable"), second)
            steps.step("pin of 1, which is forbidden", lambda: pin_in_vain("forbid", "pin_not_moved"), second)
            steps.step("alias champion moves to 1", lambda: shelf.point(ALIAS, first), first)
            for server in (a, b):
                server.becomes(version=first, pinned=None, status="healthy", last_refresh__outcome="unchanged")
    print("\n" + "\n".join(steps.lines))
    assert {answer.headers[REPLICA] for answer in sender.answers} == {"0", "1"}
