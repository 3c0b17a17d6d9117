"""Who of several workers leads, and what they say to each other; here all of them are in one process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from app.workers import link, place, team
from app.workers.faults import faults_of
from app.workers.link import LinkLost
from app.workers.messages import Done, DrainSpool, DumpMetrics, Ping, Serves
from app.workers.place import NoPlace, Place, make_place, remove_place
from app.workers.team import Team
from tests.support import come_true

Join = Callable[[], Team]


@pytest_asyncio.fixture
async def join(tmp_path: Path) -> AsyncIterator[Join]:
    """Adds a worker."""
    teams: list[Team] = []

    def begin() -> Team:
        teams.append(Team(Place(tmp_path), 2))
        teams[-1].begin()
        return teams[-1]

    yield begin
    for one in teams:
        await one.leave()


async def two(join: Join) -> tuple[Team, Team]:
    leader = join()
    await come_true(lambda: leader.leads)
    other = join()
    await come_true(lambda: leader.members)
    return leader, other


async def test_one_leads_and_another_takes_over_when_it_leaves(tmp_path: Path) -> None:
    first, second = Team(Place(tmp_path), 2), Team(Place(tmp_path), 2)
    led: list[int] = []
    for index, one in enumerate((first, second)):
        one.on_lead(lambda index=index: led.append(index))
        one.begin()
        await come_true(lambda: first.leads)
    await come_true(lambda: first.members)
    assert (first.place.index, second.place.index, led) == (0, 1, [0])
    assert [(fault.code, fault.text) for fault in faults_of(first)] == [
        ("worker_missing", "1 of 2 workers serves nothing so far")
    ]
    await first.leave()
    await come_true(lambda: second.leads)
    assert led == [0, 1]
    await second.leave()
    third = Place(tmp_path)
    assert (third.index, third.take_lead()) == (0, True)
    third.leave()


async def test_questions_are_answered_both_ways(join: Join) -> None:
    leader, other = await two(join)
    assert await other.ask_leader(Ping(), Done) == Done()
    assert await leader.ask_members(Ping(), Done) == [Done()]
    assert await asyncio.to_thread(other.ask_leader_from_thread, Ping(), Done, 5.0) == Done()


async def test_a_question_without_an_answer_fails_soon(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, other = await two(join)
    with pytest.raises(LinkLost, match="could not answer"):
        await other.ask_leader(DumpMetrics(), Done)

    async def fail(_: DrainSpool) -> None:
        raise RuntimeError

    async def hang(_: DumpMetrics) -> Done:
        await asyncio.sleep(60)
        return Done()

    leader.answer(DrainSpool, fail)
    with pytest.raises(LinkLost, match="could not answer"):
        await other.ask_leader(DrainSpool([]), Done)
    other.answer(DumpMetrics, hang)
    assert await leader.ask_members(DumpMetrics(), Done, 0.05) == []
    with pytest.raises(LinkLost, match="no worker leads"):
        await leader.ask_leader(Ping(), Done)
    monkeypatch.setattr(link, "MOST_WAITING_BYTES", -1)
    with pytest.raises(LinkLost):
        await other.ask_leader(Ping(), Done)


async def test_an_order_is_spread_before_it_is_answered_unless_a_worker_hangs(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, other = await two(join)
    assert other.leader is not None
    waiting = asyncio.create_task(leader.spread(7))
    other.leader.tell(Serves(6))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    other.leader.tell(Serves(7, ("its task crashed",)))
    assert await waiting == 0
    assert [fault.text for fault in faults_of(leader)] == ["worker 1: its task crashed"]
    monkeypatch.setattr(team, "SILENT_S", -1.0)
    assert await leader.spread(8) == 1
    assert [fault.code for fault in faults_of(leader)] == ["worker_problem", "worker_silent"]
    assert [fault.code for fault in faults_of(other)] == ["leader_silent"]


async def test_one_that_hangs_for_long_is_killed(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, other = await two(join)
    killed: list[int] = []
    monkeypatch.setattr(team.os, "kill", lambda pid, _: killed.append(pid))
    leader.end_hanging()
    other.leader_pid = 12
    other.end_hanging()
    assert killed == []
    monkeypatch.setattr(team, "HANGS_S", -1.0)
    leader.end_hanging()
    other.end_hanging()
    assert killed == [next(iter(leader.members.values())).pid, 12]


def test_the_place_is_its_owners_and_short_enough_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_place()
    assert made.stat().st_mode & 0o777 == 0o700
    remove_place(made)
    assert not made.exists()
    monkeypatch.setattr(place, "MOST_PATH_BYTES", 3)
    with pytest.raises(NoPlace):
        make_place()
