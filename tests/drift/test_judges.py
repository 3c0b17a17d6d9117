"""What is called a shift, and what is not: samples of the California data beside the bundled model's own profile."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from app.drift.report import ModelDrift, report
from app.drift.tracker import Options, Tracker, WatchedModel
from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from app.training.dataset import FEATURES, SHARED_COPY, load_dataset
from app.training.split import split_rows
from tests.drift.rows import Array, Clock, predictions_of, profile_of, rows_of, tracker_of

pytestmark = pytest.mark.skipif(not SHARED_COPY.exists(), reason="the California data is not beside the repository")

INCOME, OCCUPANCY, LATITUDE, LONGITUDE = map(FEATURES.index, ("MedInc", "AveOccup", "Latitude", "Longitude"))


@pytest.fixture(scope="module")
def model() -> WatchedModel:
    artifact = read_artifact(BUNDLED / "model")
    assert artifact.profile is not None
    return WatchedModel(
        name="houses",
        version="1",
        digest=artifact.digest,
        features=artifact.features,
        outputs=1,
        profile=artifact.profile,
        names=(),
    )


@pytest.fixture(scope="module")
def predict() -> Callable[[Array], Array]:
    return read_artifact(BUNDLED / "model").engine().predict


@pytest.fixture(scope="module")
def rows() -> Array:
    return load_dataset(SHARED_COPY).features


def judged(model: WatchedModel, rows: Array, prediction: Array) -> ModelDrift:
    tracker = Tracker(model, Options(3600, 0, Clock()))
    tracker.count(rows, prediction)
    return report(tracker, 3600)


def shifted(drift: ModelDrift) -> set[str]:
    return {column.name for column in drift.features if column.level != "stable"}


def test_the_bundled_models_profile_is_that_of_its_training_rows(
    model: WatchedModel, predict: Callable[[Array], Array], rows: Array
) -> None:
    split = split_rows(len(rows), 0)
    unseen = np.concatenate([predict(rows[split.validation]), predict(rows[split.test])])
    profile = model.profile
    assert profile is not None
    assert (profile.source, profile.rows, profile.prediction_rows) == ("training", len(split.fit), len(unseen))
    drift = judged(model, rows[split.fit], predict(rows[split.fit]))
    assert max(column.psi or 0 for column in drift.features) < 1e-9
    drift = judged(model, rows[split.validation], unseen[: len(split.validation)])
    assert drift.state == "stable"


@pytest.mark.parametrize("count", [500, 2000])
def test_no_alarm_on_20_reshuffles(
    count: int, model: WatchedModel, predict: Callable[[Array], Array], rows: Array
) -> None:
    split = split_rows(len(rows), 0)
    random = np.random.default_rng(count)
    for _ in range(20):
        chosen = rows[random.choice(split.fit, count, replace=False)]
        assert judged(model, chosen, predict(chosen)).state == "stable"


def times(column: int, factor: float) -> Callable[[Array], None]:
    def change(rows: Array) -> None:
        rows[:, column] *= factor

    return change


def swap(rows: Array) -> None:
    rows[:, [LATITUDE, LONGITUDE]] = rows[:, [LONGITUDE, LATITUDE]]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (times(INCOME, 1.2), {"MedInc"}),
        (times(OCCUPANCY, 0.9), {"AveOccup"}),
        (times(INCOME, 10_000), {"MedInc"}),
        (swap, {"Latitude", "Longitude"}),
    ],
    ids=["income x 1.2", "occupancy x 0.9", "income in dollars", "swapped coordinates"],
)
def test_shifts_are_found_in_500_rows_on_the_features_that_changed(
    change: Callable[[Array], None],
    names: set[str],
    model: WatchedModel,
    predict: Callable[[Array], Array],
    rows: Array,
) -> None:
    random = np.random.default_rng(7)
    for _ in range(5):
        chosen = rows[random.choice(len(rows), 500, replace=False)]
        change(chosen)
        assert shifted(judged(model, chosen, predict(chosen))) == names


def test_fewer_than_500_rows_are_not_judged() -> None:
    tracker = tracker_of(profile_of(rows_of(900)))
    other = rows_of(499)
    other[:, 0] += 100
    tracker.count(other, predictions_of(other))
    drift = report(tracker, 3600)
    assert (drift.state, drift.rows) == ("not enough rows", 499)
    assert {(column.level, column.psi, column.ks) for column in drift.features} == {(None, None, None)}
    assert {column.name: column.out_of_range for column in drift.features}["size"] > 0.9  # type: ignore[operator]
    tracker.count(other[:1], predictions_of(other[:1]))
    drift = report(tracker, 3600)
    assert drift.state == "major"
    first = drift.features[0]
    assert (first.name, first.level) == ("size", "major")
    assert (first.bins[0].bin, first.bins[0].share) == ("19", 1.0)
    assert msgspec.json.decode(msgspec.json.encode(drift))["features"][0]["bins"][0]["lower"] == first.bins[0].lower
