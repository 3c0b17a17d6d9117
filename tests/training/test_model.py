"""Training on a made-up town: repeatable, with true metrics and card, saved and registered whole."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.drift.histogram import quantile_histogram
from app.models.artifact import read_artifact
from app.models.registry.embedded import read_provenance
from app.models.registry.mlflow import Registry
from app.models.registry.publish import EXPERIMENT
from app.training import Dataset, Recipe, TrainedModel, command, train
from app.training.calibrate import coverage
from app.training.california import MODEL_NAME
from app.training.card.contents import Card
from app.training.split import split_rows
from kernels.forest.forest import Forest
from tests.models.support import mlflows_own_warnings_silenced
from tests.training.recipes import NAMES, RECIPE, ROWS, rmse, town


@pytest.fixture(scope="module")
def data() -> Dataset:
    return town()


@pytest.fixture(scope="module")
def trained(data: Dataset) -> TrainedModel:
    return train(data, RECIPE, "A town")


@pytest.fixture(scope="module")
def stateless(data: Dataset) -> TrainedModel:
    return train(data, RECIPE.without_references())


def test_the_split_is_the_published_one_and_takes_every_row_once() -> None:
    split = split_rows(20640)
    assert [len(split.fit), len(split.validation), len(split.test)] == [13_209, 3_303, 4_128]
    together = np.concatenate([split.fit, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(together), np.arange(20640))


def test_the_split_is_the_same_every_time_and_another_for_another_seed() -> None:
    np.testing.assert_array_equal(split_rows(400).test, split_rows(400).test)
    assert set(split_rows(400).test.tolist()) != set(split_rows(400, seed=1).test.tolist())


@pytest.mark.slow
def test_training_twice_gives_the_same_model(data: Dataset, trained: TrainedModel) -> None:
    again = train(data, RECIPE, "A town")
    assert msgspec.structs.replace(again.parts, table=None) == msgspec.structs.replace(trained.parts, table=None)
    np.testing.assert_array_equal(again.parts.table, trained.parts.table)  # type: ignore[arg-type]
    assert again.metrics == trained.metrics


def test_the_metrics_are_those_of_the_model_on_each_part(data: Dataset, trained: TrainedModel) -> None:
    engine = trained.parts.engine()
    split = split_rows(len(data.target))
    for part, rows in (("fit", split.fit), ("validation", split.validation), ("test", split.test)):
        predicted, actual = engine.predict(data.features[rows]), data.target[rows]
        assert trained.metrics[f"{part}_rmse"] == pytest.approx(rmse(predicted, actual), rel=1e-12)
        assert trained.metrics[f"{part}_mae"] == pytest.approx(np.abs(predicted - actual).mean(), rel=1e-12)
        explained = 1 - np.mean((actual - predicted) ** 2) / np.var(actual)
        assert trained.metrics[f"{part}_r2"] == pytest.approx(explained, rel=1e-12)
    assert trained.metrics["trees"] == engine.forest.n_trees <= RECIPE.max_rounds
    assert trained.card.metrics == trained.metrics


def test_reference_steps_make_the_model_better(trained: TrainedModel, stateless: TrainedModel) -> None:
    assert trained.metrics["test_rmse"] < 0.95 * stateless.metrics["test_rmse"]


def test_whole_areas_are_held_out_to_measure_unseen_ones(trained: TrainedModel) -> None:
    areas = RECIPE.areas
    assert areas is not None
    assert len(trained.card.unseen_areas) == areas.holdouts
    for area in trained.card.unseen_areas:
        assert 0 < area.rows < ROWS / 2
        errors = {area.rmse, area.rmse_without_copies, area.rmse_without_references}
        assert len(errors) == 3


def test_the_intervals_are_calibrated_on_the_validation_rows(data: Dataset, trained: TrainedModel) -> None:
    intervals = trained.parts.intervals
    assert intervals is not None
    split = split_rows(len(data.target))
    assert intervals.calibration_rows == len(split.validation)
    answer = trained.parts.engine().evaluate(data.features[split.validation])
    assert answer.difficulty is not None
    held = coverage(intervals, answer.prediction, answer.difficulty, data.target[split.validation], 0.9)
    assert held.coverage == pytest.approx(0.9, abs=1.5 / len(split.validation))


def test_the_card_states_the_coverage_of_the_test_rows(data: Dataset, trained: TrainedModel) -> None:
    intervals = trained.parts.intervals
    assert intervals is not None
    rows = split_rows(len(data.target)).test
    answer = trained.parts.engine().evaluate(data.features[rows])
    assert answer.difficulty is not None
    expected = tuple(
        coverage(intervals, answer.prediction, answer.difficulty, data.target[rows], level)
        for level in intervals.levels
    )
    assert trained.card.intervals == expected


def test_the_card_describes_the_fit_rows(data: Dataset, trained: TrainedModel) -> None:
    card, fit = trained.card, split_rows(len(data.target)).fit
    assert card.data.sha256 == data.sha256
    assert card.title == "A town"
    assert card.outside_distance == trained.parts.engine().outside_distance
    assert card.histograms.features["size"] == quantile_histogram(data.features[fit, 2])
    assert card.cost is not None
    assert card.cost.single_row_us > 0
    assert len(card.importance) == len(trained.parts.plan.outputs)


def test_a_recipe_without_levels_gives_no_intervals(data: Dataset) -> None:
    model = train(data, msgspec.structs.replace(RECIPE.without_references(), levels=()))
    assert model.parts.difficulty is None
    assert model.parts.intervals is None
    assert model.card.intervals == ()
    assert model.parts.engine().evaluate(data.features[:2]).difficulty is None


def test_a_recipe_without_references_keeps_no_rows(stateless: TrainedModel) -> None:
    assert stateless.parts.table is None
    assert stateless.parts.plan.references is None
    assert stateless.card.unseen_areas == ()
    assert stateless.error_map is None


def test_the_example_is_the_median_of_the_fit_rows(data: Dataset, trained: TrainedModel) -> None:
    fit = data.features[split_rows(len(data.target)).fit]
    assert trained.example == dict(zip(NAMES, np.median(fit, axis=0).tolist(), strict=True))


def test_progress_is_reported_to_its_end(data: Dataset) -> None:
    told: list[tuple[str, int, int]] = []
    train(data, RECIPE.without_references(), report=lambda *step: told.append(step))
    for stage in ("Features", "Folds"):
        steps = [(done, total) for name, done, total in told if name == stage]
        assert steps[-1][0] == steps[-1][1]
        assert steps == sorted(steps)
    rounds = [done for name, done, total in told if name == "Boosting"]
    assert rounds == list(range(1, len(rounds) + 1))


def test_rounds_that_do_not_help_are_cut_off(data: Dataset) -> None:
    noise = msgspec.structs.replace(data, target=np.random.default_rng(0).normal(size=len(data.target)))
    model = train(noise, msgspec.structs.replace(RECIPE.without_references(), max_rounds=30, early_stopping_rounds=5))
    assert model.metrics["trees"] == Forest.from_model_text(model.parts.booster).n_trees < 30


def test_a_saved_model_reads_back_and_answers_the_same(data: Dataset, trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path)
    artifact = read_artifact(tmp_path / "model")
    assert artifact.plan == trained.parts.plan
    assert artifact.example == trained.example
    assert artifact.intervals == trained.parts.intervals
    got, expected = artifact.engine().evaluate(data.features), trained.parts.engine().evaluate(data.features)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert msgspec.json.decode((tmp_path / "card" / "card.json").read_bytes(), type=Card) == trained.card
    assert (tmp_path / "card" / "error_map.png").is_file()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", model_name="town")


def test_a_registered_model_is_offered_by_the_registry(
    trained: TrainedModel, private_registry_dir: Path, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    # A registry that has its tables already; the artifacts of its own experiment are not to be changed.
    settings = Settings(data_dir=private_registry_dir, model_name="town")
    client = MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.registry_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    client.rename_experiment(experiment.experiment_id, "bundled")
    with mlflows_own_warnings_silenced():
        assert trained.register("town", settings) == "1"
    registry = Registry(settings)
    resolution = registry.look().candidates[0]
    assert (resolution.identity.version, resolution.identity.aliases) == ("1", ("champion",))
    (tmp_path / "fetched").mkdir()
    fetched = registry.fetch(resolution.identity, tmp_path / "fetched")
    assert fetched.metrics == trained.metrics
    assert read_artifact(fetched.directory).example == trained.example
    cards = {item.path for item in client.list_artifacts(str(resolution.identity.run_id), "card")}
    assert cards == {f"card/{name}" for name in ("card.md", "card.json", "importance.png", "error_map.png")}


def test_the_command_writes_model_card_and_provenance(
    data: Dataset, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe: Recipe = RECIPE.without_references()
    command.train_and_register(settings, data, recipe, output=tmp_path / "output", register=False)
    provenance = read_provenance(tmp_path / "output")
    assert provenance.name == MODEL_NAME
    assert provenance.tags["data_sha256"] == data.sha256
    assert provenance.params["num_leaves"] == "8"
    assert provenance.params["reference_rows"] == "0"
    assert read_artifact(tmp_path / "output" / "model").forest.n_trees == provenance.metrics["trees"]
    assert (tmp_path / "output" / "card" / "card.md").is_file()
    assert f"{len(data.target)} rows from made up" in capsys.readouterr().out
    assert not settings.data_dir.exists()


def test_an_output_directory_with_files_is_left_alone(data: Dataset, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(FileExistsError, match="is not empty"):
        command.train_and_register(settings, data, RECIPE, output=tmp_path, register=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
