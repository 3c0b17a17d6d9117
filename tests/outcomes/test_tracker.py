"""Error by version: outcomes that are late, early, corrected, unknown, and of versions in service or not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from sklearn import metrics

from app.errors import FieldError
from app.feature import Category
from app.models.slot import ModelSlot
from app.outcomes import tracker as module
from app.outcomes.body import Outcome
from app.outcomes.report import FLOOR, OutcomesReport, Performance
from app.outcomes.store import OutcomeStore
from app.outcomes.target import target_of
from app.outcomes.tracker import WAIT, OutcomeTracker
from app.prediction_log.messages import LogTarget
from app.prediction_log.tables import OUTCOMES, PREDICTIONS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = "houses"


def model(version: str = "1", objective: str = "regression", labels: tuple[Category, ...] | None = None) -> Any:
    """What a tracker looks at of a model in service."""
    outputs = int(objective.partition("num_class:")[2] or 1)
    return SimpleNamespace(
        identity=SimpleNamespace(name=MODEL, version=version),
        labels=labels,
        artifact=SimpleNamespace(forest=SimpleNamespace(objective=objective, n_outputs=outputs)),
    )


class Tracked:
    """A tracker over a database, whose clock stands still."""

    def __init__(self, url: str, rows: int = 1000) -> None:
        self.slot = ModelSlot()
        self.slot.current = model()
        self.now = NOW
        self.registry = CollectorRegistry()
        self.tracker = OutcomeTracker(
            OutcomeStore(LogTarget(url, 1000)), [self.slot], self.registry, rows, lambda: self.now
        )
        self.engine = sa.create_engine(url)

    def log(self, ids: list[str], predictions: Any, **changes: Any) -> None:
        logged = {
            "created_at": self.now, "row": 0, "prediction_type": "single", "model_name": MODEL, "model_version": "1",
            "features": {},
        } | changes  # fmt: skip
        rows = [{**logged, "request_id": name, "prediction": one} for name, one in zip(ids, predictions, strict=True)]
        with self.engine.begin() as connection:
            connection.execute(sa.insert(PREDICTIONS), rows)

    def report(self) -> OutcomesReport:
        self.tracker.refresh()
        return self.tracker.report

    def version(self) -> Performance:
        (performance,) = self.report().versions
        return performance

    def counts(self) -> dict[str, float]:
        """What is counted, without what is 0."""
        results = {name: self.registry.get_sample_value("outcomes_total", {"result": name}) for name in module.RESULTS}
        return {name: count for name, count in results.items() if count}


@pytest.fixture
def tracked(tmp_path: Path) -> Iterator[Tracked]:
    tracked = Tracked(f"sqlite:///{tmp_path / 'log.db'}")
    tracked.tracker.refresh()
    yield tracked
    tracked.tracker.close()
    tracked.engine.dispose()


def ids(count: int, first: int = 0) -> list[str]:
    return [f"r{number}" for number in range(first, first + count)]


def outcomes(names: list[str], actual: Any) -> list[Any]:
    return [Outcome(name, value) for name, value in zip(names, actual, strict=True)]


def test_a_regression_has_the_figures_of_scikit_learn(tracked: Tracked) -> None:
    random = np.random.default_rng(1)
    actual = random.normal(2, 1, 300)
    predicted = actual + random.normal(0, 0.5, 300)
    tracked.log(ids(150), predicted[:150].tolist(), interval_lower=1.5, interval_upper=2.5, interval_level=0.5)
    tracked.log(ids(150, 150), predicted[150:].tolist())  # without an interval
    assert set(tracked.tracker.add(outcomes(ids(300), actual.tolist()))) == {"matched"}
    version = tracked.version()
    assert (version.model_name, version.model_version, version.kind, version.state) == (
        MODEL, "1", "regression", "measured",
    )  # fmt: skip
    assert (version.rows, version.unusable, version.first) == (300, 0, NOW)
    figures = version.figures
    assert figures is not None
    assert figures.rmse == pytest.approx(metrics.root_mean_squared_error(actual, predicted), rel=1e-12)
    assert figures.mae == pytest.approx(metrics.mean_absolute_error(actual, predicted), rel=1e-12)
    assert figures.r2 == pytest.approx(metrics.r2_score(actual, predicted), rel=1e-12)
    assert figures.interval_coverage == np.mean((actual[:150] >= 1.5) & (actual[:150] <= 2.5))
    assert figures.interval_level == 0.5
    assert figures.log_loss is figures.auc is figures.calibration_error is None
    labels = {"model_name": MODEL, "model_version": "1"}
    assert tracked.registry.get_sample_value("outcome_rows", labels) == 300
    assert tracked.registry.get_sample_value("outcome_rmse", labels) == figures.rmse
    assert tracked.registry.get_sample_value("outcome_auc", labels) is None


def test_a_classifier_is_judged_by_its_labels(tracked: Tracked) -> None:
    random = np.random.default_rng(1)
    tracked.slot.current = model(objective="binary sigmoid:1", labels=("no", "yes"))
    probability = random.uniform(size=200)
    happened = random.uniform(size=200) < probability
    tracked.log(ids(200), probability.tolist())
    tracked.tracker.add(outcomes(ids(200), np.where(happened, "yes", "no").tolist()))
    figures = tracked.version().figures
    assert figures is not None
    assert figures.auc == pytest.approx(metrics.roc_auc_score(happened, probability), rel=1e-12)
    assert figures.log_loss == pytest.approx(metrics.log_loss(happened, probability), rel=1e-12)
    assert figures.calibration_error is not None
    assert figures.rmse is figures.interval_coverage is None


def test_more_classes_are_judged_by_their_indices(tracked: Tracked) -> None:
    random = np.random.default_rng(1)
    tracked.slot.current = model(objective="multiclass num_class:3")
    probabilities = random.dirichlet(np.ones(3), 200)
    happened = random.integers(0, 3, 200)
    tracked.log(ids(200), probabilities.tolist())
    tracked.tracker.add(outcomes(ids(200), happened.astype(float).tolist()))
    figures = tracked.version().figures
    assert figures is not None
    assert figures.auc == pytest.approx(metrics.roc_auc_score(happened, probabilities, multi_class="ovr"), rel=1e-12)
    assert figures.log_loss == pytest.approx(metrics.log_loss(happened, probabilities), rel=1e-12)


def test_below_the_floor_there_are_no_figures(tracked: Tracked) -> None:
    assert tracked.version().state == "no outcomes"
    tracked.log(ids(FLOOR), [1.0] * FLOOR)
    tracked.tracker.add(outcomes(ids(FLOOR - 1), [1.0] * (FLOOR - 1)))
    version = tracked.version()
    assert (version.state, version.rows, version.figures) == ("not enough rows", FLOOR - 1, None)
    tracked.tracker.add([Outcome(f"r{FLOOR - 1}", 3.0)])
    figures = tracked.version().figures
    assert figures is not None
    assert figures.rmse == pytest.approx(2 / FLOOR**0.5)


def test_no_figures_for_a_ranking(tracked: Tracked) -> None:
    tracked.slot.current = model(objective="lambdarank")
    tracked.log(["a"], [1.0])
    assert tracked.tracker.add([Outcome("a", 1.0)]) == ["matched"]
    assert tracked.version().state == "no figures for this objective"


@pytest.mark.parametrize("read_all", [True, False])
def test_a_late_or_corrected_outcome_counts(tracked: Tracked, monkeypatch: pytest.MonkeyPatch, read_all: bool) -> None:
    if read_all:
        monkeypatch.setattr(module, "ALL_AGAIN", timedelta(0))
    tracked.log(ids(FLOOR), [1.0] * FLOOR)
    tracked.tracker.add(outcomes(ids(FLOOR), [1.0] * FLOOR))
    assert tracked.version().figures.rmse == 0  # type: ignore[union-attr]
    tracked.now += timedelta(minutes=30)
    tracked.tracker.add(outcomes(ids(FLOOR), [2.0] * FLOOR))
    assert tracked.version().figures.rmse == 1  # type: ignore[union-attr]
    tracked.now += timedelta(days=3)
    tracked.log(ids(FLOOR, FLOOR), [1.0] * FLOOR)
    tracked.now += timedelta(days=30)
    tracked.tracker.add(outcomes(ids(FLOOR, FLOOR), [1.0] * FLOOR))
    assert tracked.version().figures.rmse == pytest.approx(0.5**0.5)  # type: ignore[union-attr]
    assert tracked.counts() == {"matched": 2 * FLOOR, "corrected": FLOOR}


def test_an_early_outcome_joins_its_prediction_later(tracked: Tracked) -> None:
    assert tracked.tracker.add(outcomes(ids(FLOOR), [1.0] * FLOOR))[0] == "waiting"
    assert (tracked.report().waiting, tracked.version().rows) == (FLOOR, 0)
    tracked.now += WAIT / 2
    assert tracked.report().waiting == FLOOR
    tracked.log(ids(FLOOR), [2.0] * FLOOR)
    report = tracked.report()
    assert (report.waiting, report.versions[0].rows) == (0, FLOOR)
    assert report.versions[0].figures.rmse == 1  # type: ignore[union-attr]
    assert tracked.counts() == {"waiting": FLOOR, "matched": FLOOR}


def test_an_unknown_id_is_counted_once_and_deleted(tracked: Tracked) -> None:
    other = Tracked(str(tracked.engine.url))
    tracked.tracker.add(outcomes(["never", "later"], [1.0, 1.0]))
    assert (tracked.report().waiting, other.report().waiting) == (2, 2)
    tracked.now += WAIT + timedelta(seconds=1)
    other.now = tracked.now
    tracked.log(["later"], [1.0])
    assert (tracked.report().waiting, other.report().waiting) == (0, 0)
    assert tracked.counts() == {"waiting": 2, "matched": 1, "unknown": 1}
    assert other.counts() == {}
    with tracked.engine.connect() as connection:
        assert connection.execute(sa.select(OUTCOMES.c.request_id)).scalars().all() == ["later"]
    other.tracker.close()
    other.engine.dispose()


def test_every_replica_tells_the_same(tracked: Tracked) -> None:
    other = Tracked(str(tracked.engine.url))
    tracked.log(ids(200), np.arange(200.0).tolist())
    tracked.tracker.add(outcomes(ids(150), np.ones(150).tolist()))
    other.tracker.add(outcomes(ids(50, 150), np.ones(50).tolist()))
    assert tracked.report().versions == other.report().versions
    assert tracked.version().rows == 200
    other.tracker.close()
    other.engine.dispose()


def test_the_newest_rows_of_each_version_in_service_count(tracked: Tracked) -> None:
    small = Tracked(str(tracked.engine.url), rows=FLOOR)
    small.log(ids(FLOOR), [0.0] * FLOOR)
    small.log(ids(FLOOR, FLOOR), [1.0] * FLOOR)
    small.log(ids(FLOOR, 500), [5.0] * FLOOR, model_version="2")
    small.log(ids(FLOOR, 1000), [9.0] * FLOOR, model_name="another")
    for first in (FLOOR, 1000, 0, 500):  # the outcomes of the newest rows come first
        small.tracker.add(outcomes(ids(FLOOR, first), [0.0] * FLOOR))
    assert (small.version().rows, small.version().figures.rmse) == (FLOOR, 1)  # type: ignore[union-attr]
    small.slot.canary = model("2")
    assert [one.figures and one.figures.rmse for one in small.report().versions] == [1, 5]
    small.slot.current, small.slot.canary = model("2"), None
    assert small.version().model_version == "2"
    small.tracker.close()
    small.engine.dispose()


def test_a_value_that_the_model_cannot_predict_is_refused_or_left_out(tracked: Tracked) -> None:
    tracked.log(["a"], [1.0])
    early = tracked.tracker.add([Outcome("b", "yes"), FieldError("row", "is bad"), Outcome("a", "yes")])  # type: ignore[list-item]
    assert early == ["waiting", ("row", "is bad"), ("actual", "must be a finite number")]
    tracked.log(["b"], [1.0])
    version = tracked.version()
    assert (version.rows, version.unusable, version.state) == (1, 1, "not enough rows")
    assert tracked.registry.get_sample_value("outcome_rows", {"model_name": MODEL, "model_version": "1"}) == 0
    assert tracked.counts() == {"waiting": 1, "refused": 2, "matched": 1}


def test_values_whose_squares_are_infinite_leave_figures_out(tracked: Tracked) -> None:
    tracked.log(ids(FLOOR), [1.0] * FLOOR)
    tracked.tracker.add(outcomes(ids(FLOOR), [1e300] * FLOOR))
    figures = tracked.version().figures
    assert figures is not None
    assert (figures.rmse, figures.mae, figures.r2) == (None, pytest.approx(1e300), None)


def test_predictions_of_other_outputs_are_left_out(tracked: Tracked) -> None:
    tracked.log(["other"], [[0.5, 0.5]])  # of the version 1 of a registry that was made anew
    tracked.log(ids(FLOOR), [1.0] * FLOOR)
    tracked.tracker.add(outcomes(["other", *ids(FLOOR)], [2.0] * (FLOOR + 1)))
    version = tracked.version()
    assert (version.rows, version.unusable, version.figures and version.figures.rmse) == (FLOOR + 1, 1, 1)


@pytest.mark.parametrize(
    ("served", "good", "bad"),
    [
        (model(), [(1.5, 1.5), (-2, -2.0)], ["1", True, float("inf")]),
        (model(objective="binary"), [(0.0, 0.0), (True, 1.0)], [0.5, 2.0, "1"]),
        (model(objective="cross_entropy"), [(0.5, 0.5)], [1.5, -0.1]),
        (model(objective="multiclass num_class:3"), [(2.0, 2.0)], [3.0, 1.5, -1.0, "a"]),
        (model(objective="multiclass num_class:3", labels=(10, 20, 30)), [(20.0, 1.0), ("30", 2.0)], [1.0, "x"]),
        (model(objective="binary", labels=("1.50", "True")), [("1.50", 0.0), (1.5, 0.0), (True, 1.0)], [0.0, "1.5x"]),
        (model(objective="binary", labels=(False, True)), [(True, 1.0), ("false", 0.0)], ["no", 1.0]),
    ],
)
def test_what_an_actual_value_may_be(served: Any, good: list[tuple[Category, float]], bad: list[Category]) -> None:
    target = target_of(served)
    assert [target.number(actual) for actual, _ in good] == [number for _, number in good]
    assert [target.number(actual) for actual in bad] == [None] * len(bad)
    assert target.rule.startswith("must be ")


def test_a_database_that_is_away_leaves_the_last_figures(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.log(ids(FLOOR), [1.0] * FLOOR)
    tracked.tracker.add(outcomes(ids(FLOOR), [1.0] * FLOOR))
    before = tracked.report()

    def away(self: OutcomeStore) -> Any:
        raise sa.exc.OperationalError("", {}, ConnectionRefusedError())

    with monkeypatch.context() as patched:
        patched.setattr(OutcomeStore, "_connected", away)
        report = tracked.report()
        assert (report.state, report.reason) == ("unavailable", "ConnectionRefusedError")
        assert report.versions == before.versions
    assert tracked.report() == before


def test_outcomes_beyond_those_that_may_wait_are_refused(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    fates = tracked.tracker.add(outcomes(ids(3), [1.0] * 3))
    assert [isinstance(fate, tuple) for fate in fates] == [False, False, True]
    assert isinstance(tracked.tracker.add([Outcome("more", 1.0)])[0], tuple)
    tracked.now += 2 * WAIT
    tracked.tracker.refresh()
    assert tracked.tracker.add([Outcome("more", 1.0)]) == ["waiting"]
    assert tracked.counts() == {"waiting": 3, "refused": 2, "unknown": 2}
