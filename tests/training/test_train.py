"""Training on a few synthetic houses: repeatable, evaluated as it says, written so that it reads back."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import app.training.train as training
from app.models.artifact import read_artifact
from app.models.embedded import read_provenance
from app.models.registry import Registry
from app.settings import Settings
from app.training.dataset import FEATURES, Dataset
from app.training.train import TrainedModel, split_rows, train, train_and_publish
from kernels.engine import Engine
from kernels.forest import Forest
from tests.models.support import mlflows_own_warnings_silenced

ROUNDS = 6


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """400 made-up houses whose price follows income and place."""
    random = np.random.default_rng(11)
    low = np.array([0.5, 1, 1, 0.5, 3, 1, 32.5, -124.3])
    high = np.array([15, 52, 10, 2, 5000, 6, 42, -114.3])
    features = random.uniform(low, high, (400, len(FEATURES)))
    target = 0.4 * features[:, 0] + np.abs(features[:, 6] - 37) / 4 + random.normal(0, 0.1, 400)
    return Dataset(features=features, target=target, source="made up", sha256="0" * 64)


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> TrainedModel:
    return train(dataset, rounds=ROUNDS)


def rmse(predicted: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((predicted - actual) ** 2)))


def test_the_split_is_the_published_one_and_takes_every_row_once() -> None:
    split = split_rows(20640)
    assert [len(split.fit), len(split.validation), len(split.test)] == [13_209, 3_303, 4_128]
    together = np.concatenate([split.fit, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(together), np.arange(20640))


def test_the_split_is_the_same_every_time_and_another_for_another_seed() -> None:
    np.testing.assert_array_equal(split_rows(400).test, split_rows(400).test)
    assert set(split_rows(400).test.tolist()) != set(split_rows(400, seed=1).test.tolist())


def test_training_twice_gives_the_same_model(dataset: Dataset, trained: TrainedModel) -> None:
    again = train(dataset, rounds=ROUNDS)
    assert again.booster_text == trained.booster_text
    assert again.plan == trained.plan
    assert again.metrics == trained.metrics


def test_the_metrics_are_those_of_the_model_on_each_part(dataset: Dataset, trained: TrainedModel) -> None:
    engine = Engine(Forest.from_model_text(trained.booster_text), trained.plan)
    split = split_rows(len(dataset.target))
    assert trained.metrics.keys() == {"trees"} | {
        f"{part}_{name}" for part in ("fit", "validation", "test") for name in ("rmse", "mae", "r2")
    }
    for part, rows in (("fit", split.fit), ("validation", split.validation), ("test", split.test)):
        predicted, actual = engine.predict(dataset.features[rows]), dataset.target[rows]
        assert trained.metrics[f"{part}_rmse"] == pytest.approx(rmse(predicted, actual), rel=1e-12)
        assert trained.metrics[f"{part}_mae"] == pytest.approx(np.abs(predicted - actual).mean(), rel=1e-12)
        explained = 1 - np.mean((actual - predicted) ** 2) / np.var(actual)
        assert trained.metrics[f"{part}_r2"] == pytest.approx(explained, rel=1e-12)
    assert trained.metrics["trees"] == engine.forest.n_trees <= ROUNDS


def test_the_model_learns(dataset: Dataset, trained: TrainedModel) -> None:
    split = split_rows(len(dataset.target))
    assert trained.metrics["test_rmse"] < np.std(dataset.target[split.test])


def test_training_ranges_are_those_of_the_fit_rows_alone(dataset: Dataset, trained: TrainedModel) -> None:
    fit = dataset.features[split_rows(len(dataset.target)).fit]
    for index, item in enumerate(trained.plan.inputs):
        assert item.training_range == (fit[:, index].min(), fit[:, index].max())
    assert (dataset.features.max(axis=0) > fit.max(axis=0)).any()


def test_the_example_is_the_median_of_the_fit_rows(dataset: Dataset, trained: TrainedModel) -> None:
    fit = dataset.features[split_rows(len(dataset.target)).fit]
    assert trained.example == dict(zip(FEATURES, np.median(fit, axis=0).tolist(), strict=True))


def test_a_callback_sees_every_round(dataset: Dataset) -> None:
    rounds: list[int] = []
    train(dataset, rounds=ROUNDS, callbacks=(lambda environment: rounds.append(environment.iteration),))
    assert rounds == list(range(ROUNDS))


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `train_and_publish` train as quickly as these tests do."""
    monkeypatch.setattr(training, "train", lambda dataset, callbacks=(): train(dataset, ROUNDS, callbacks))


@pytest.mark.usefixtures("few_rounds")
def test_what_is_written_reads_back(
    dataset: Dataset, trained: TrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    train_and_publish(settings, dataset, output=tmp_path / "output", register=False)
    artifact = read_artifact(tmp_path / "output" / "model")
    assert artifact.plan == trained.plan
    assert artifact.example == trained.example
    np.testing.assert_array_equal(
        artifact.engine().predict(dataset.features),
        Engine(Forest.from_model_text(trained.booster_text), trained.plan).predict(dataset.features),
    )
    provenance = read_provenance(tmp_path / "output")
    assert provenance.name == "california-housing-model"
    assert provenance.metrics == trained.metrics
    assert provenance.tags["data_sha256"] == dataset.sha256
    assert provenance.tags["data_rows"] == "400"
    assert "400 rows from made up" in capsys.readouterr().out
    assert not settings.data_dir.exists()


@pytest.mark.usefixtures("few_rounds")
def test_what_is_registered_is_offered_by_the_registry(dataset: Dataset, trained: TrainedModel, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with mlflows_own_warnings_silenced():
        train_and_publish(settings, dataset, output=None, register=True)
    registry = Registry(settings)
    resolution = registry.resolve()
    assert (resolution.identity.version, resolution.identity.aliases) == ("1", ("champion",))
    assert registry.run_metrics(resolution.identity.run_id) == trained.metrics
    (tmp_path / "fetched").mkdir()
    assert read_artifact(registry.fetch(resolution.identity, tmp_path / "fetched")).example == trained.example


def test_an_output_directory_that_holds_files_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(FileExistsError, match="is not empty"):
        train_and_publish(Settings(data_dir=tmp_path / "data"), dataset, output=tmp_path, register=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_more_rounds_than_help_are_cut_off(dataset: Dataset) -> None:
    noise = np.random.default_rng(0).normal(size=len(dataset.target))
    model = train(msgspec.structs.replace(dataset, target=noise), rounds=training.EARLY_STOPPING_ROUNDS + 20)
    assert model.metrics["trees"] == Forest.from_model_text(model.booster_text).n_trees
    assert model.metrics["trees"] < training.EARLY_STOPPING_ROUNDS + 20
