"""Outcomes in the database: what becomes of each, and how they find their predictions; on SQLite and PostgreSQL."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app.feature import Category
from app.outcomes.body import Outcome
from app.outcomes.store import PAGE, TOO_MANY, Fate, Joined, Model, OutcomeStore, Refused
from app.prediction_log.messages import LogTarget
from app.prediction_log.tables import OUTCOMES, PREDICTIONS
from tests.prediction_log.databases import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Tables:
    """The tables of a log, and a store of their outcomes."""

    def __init__(self, url: str) -> None:
        self.target = LogTarget(url, 1000)
        self.store = OutcomeStore(self.target)
        self.store.close()
        list(self.store.pages(None))  # makes the tables
        self.engine = sa.create_engine(url)

    def log(self, *rows: dict[str, Any]) -> None:
        """Log predictions, most of whose columns are the same."""
        with self.engine.begin() as connection:
            connection.execute(sa.insert(PREDICTIONS), [{**LOGGED, **row} for row in rows])

    def add(self, *outcomes: Outcome, at: datetime = NOW, room: int = 100) -> Sequence[Fate | Refused]:
        return self.store.add(outcomes, at, judged, room)

    def joined(self, since: datetime | None = None) -> list[Joined]:
        return [joined for page in self.store.pages(since) for joined in page]


LOGGED = {
    "created_at": NOW, "request_id": "a", "row": 0, "prediction_type": "single", "model_name": "m",
    "model_version": "1", "features": {"x": 1.0}, "prediction": 2.0, "interval_lower": 1.0, "interval_upper": 3.0,
    "interval_level": 0.9,
}  # fmt: skip


def judged(model: Model, actual: Category) -> Refused | None:
    return Refused("actual", "is bad") if actual == "bad" else None


@pytest.fixture
def tables(database: Database) -> Iterator[Tables]:
    tables = Tables(database.url)
    yield tables
    tables.store.close()
    tables.engine.dispose()


def test_each_outcome_is_told_what_became_of_it(tables: Tables) -> None:
    tables.log({}, {"request_id": "b", "row": 1, "prediction_type": "batch"})
    assert tables.add(Outcome("a", 1.5), Outcome("b", 2.5, 1), Outcome("b", 2.5, 0), Outcome("c", "x")) == [
        "matched", "matched", "waiting", "waiting",
    ]  # fmt: skip
    assert tables.add(Outcome("a", 1.5), Outcome("b", 3.5, 1), Outcome("c", "x"), Outcome("c", True)) == [
        "duplicate", "corrected", "duplicate", "corrected",
    ]  # fmt: skip
    assert tables.add(Outcome("a", "bad"), Outcome("c", "bad")) == [Refused("actual", "is bad"), "corrected"]
    found = {joined.key: (joined.actual, joined.prediction) for joined in tables.joined()}
    assert found == {("a", 0): (1.5, 2.0), ("b", 1): (3.5, 2.0), ("b", 0): (2.5, None), ("c", 0): ("bad", None)}


def test_the_newest_of_several_values_of_one_request_wins(tables: Tables) -> None:
    assert tables.add(Outcome("a", 1.0), Outcome("a", 1.0), Outcome("a", 2.0), Outcome("a", 1.0)) == [
        "waiting", "duplicate", "corrected", "corrected",
    ]  # fmt: skip
    assert [joined.actual for joined in tables.joined()] == [1.0]


def test_a_correction_counts_from_the_time_that_it_came(tables: Tables) -> None:
    tables.add(Outcome("a", 1.0), Outcome("b", 1.0))
    later = NOW + timedelta(hours=2)
    tables.add(Outcome("a", 2.0), Outcome("b", 1.0), at=later)
    assert [(joined.key[0], joined.received_at) for joined in tables.joined()] == [("b", NOW), ("a", later)]
    assert [joined.actual for joined in tables.joined(later)] == [2.0]


def test_no_more_outcomes_wait_than_there_is_room_for(tables: Tables) -> None:
    tables.log({})
    full = Refused("request_id", TOO_MANY)
    fates = tables.add(Outcome("b", 1.0), Outcome("c", 1.0), Outcome("a", 1.0), Outcome("b", 2.0), room=1)
    assert fates == ["waiting", full, "matched", "corrected"]


def test_an_outcome_is_joined_with_its_own_prediction(tables: Tables) -> None:
    tables.add(Outcome("a", 1.0), Outcome("old", 1.0), Outcome("olds", 1.0))
    assert list(tables.store.found([("a", 0), ("old", 0)])) == []
    tables.log(
        {"row": 1}, {"prediction": 4.0}, {"prediction": 5.0, "model_version": "2"},
        {"request_id": "old", "row": None}, {"request_id": "olds", "row": None, "prediction_type": "batch"},
    )  # fmt: skip
    keys = [("a", 0), ("old", 0), ("olds", 0), ("b", 0)]
    newest, old = sorted(tables.store.found(keys), key=lambda joined: joined.key)
    assert (newest.prediction, newest.model, newest.interval) == (5.0, ("m", "2"), (1.0, 3.0, 0.9))
    assert (newest.created_at, old.key) == (NOW, ("old", 0))


def test_only_outcomes_without_a_prediction_are_forgotten(tables: Tables) -> None:
    tables.log({})
    tables.add(Outcome("a", 1.0), Outcome("b", 1.0), Outcome("b", 1.0, 1))
    assert tables.store.forget([("a", 0), ("b", 0), ("c", 0)]) == 1
    assert tables.store.forget([("b", 0)]) == 0
    assert {joined.key for joined in tables.joined()} == {("a", 0), ("b", 1)}


def test_pages_end_and_begin_between_outcomes_of_one_time(tables: Tables) -> None:
    count = 2 * PAGE + 10
    tables.log(*({"request_id": f"r{number}", "prediction": float(number)} for number in range(count)))
    tables.add(*(Outcome(f"r{number}", float(number)) for number in range(count)), room=0)
    tables.add(Outcome("r0", -1.0), at=NOW + timedelta(seconds=1))
    found = tables.joined()
    assert len(found) == len({joined.key for joined in found}) == count
    assert all(joined.prediction == joined.actual for joined in found[:-1])
    assert (found[-1].key, found[-1].actual) == (("r0", 0), -1.0)


def test_services_that_write_at_once_count_each_value_once(tables: Tables) -> None:
    outcomes = [Outcome(f"r{number}", 1.0) for number in range(200)]
    stores = [OutcomeStore(tables.target) for _ in range(3)]
    orders = outcomes, outcomes[::-1], outcomes[100:] + outcomes[:100]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda store, order: store.add(order, NOW, judged, 1000), stores, orders))
    for store in stores:
        store.close()
    fates = [fate for one in found for fate in one]
    assert (fates.count("waiting"), fates.count("duplicate")) == (200, 400)


def test_a_fault_leaves_nothing_half_written(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    with tables.engine.begin() as connection:
        connection.execute(sa.delete(OUTCOMES))
    many = [Outcome(f"r{number}", float(number)) for number in range(600)]  # of two statements
    execute = sa.Connection.execute

    def fail(self: sa.Connection, statement: Any, *given: Any) -> Any:
        if given and given[0][0]["request_id"] == "r500":
            raise sa.exc.OperationalError("", {}, Exception())
        return execute(self, statement, *given)

    with monkeypatch.context() as patched:
        patched.setattr(sa.Connection, "execute", fail)
        with pytest.raises(sa.exc.OperationalError):
            tables.add(*many, room=1000)
    assert tables.joined() == []
    assert set(tables.add(*many, room=1000)) == {"waiting"}
