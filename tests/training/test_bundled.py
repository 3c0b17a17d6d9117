"""The committed model: small, described in full, and as good as its provenance says."""

import msgspec
import numpy as np
import pytest

from app.models.artifact import Artifact, read_artifact
from app.models.registry.embedded import BUNDLED, read_provenance
from app.training.california import MODEL_NAME, STATELESS
from app.training.card.contents import Card
from app.training.card.page import card_page
from app.training.dataset import FEATURES, SHARED_COPY, Dataset, load_dataset
from app.training.split import split_rows

MAX_BYTES = 4_000_000
MAX_TEST_RMSE = 0.400


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return read_artifact(BUNDLED / "model")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Data that the model was trained on."""
    if not SHARED_COPY.is_file():
        pytest.skip("the California Housing data is not beside the checkout")
    return load_dataset(SHARED_COPY)


def test_it_is_at_most_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= MAX_BYTES


def test_it_says_how_it_came_to_be(artifact: Artifact) -> None:
    provenance = read_provenance(BUNDLED)
    assert provenance.name == MODEL_NAME
    assert {name: str(value) for name, value in STATELESS.boosting().items()}.items() <= provenance.params.items()
    assert {"max_rounds", "early_stopping_rounds", "split_seed"} <= provenance.params.keys()
    assert artifact.plan is not None
    assert provenance.params["plan_steps"] == str(len(artifact.plan.steps))
    assert provenance.params["model_features"] == str(len(artifact.plan.outputs))
    assert provenance.metrics["trees"] == artifact.forest.n_trees
    for part in ("fit", "validation", "test"):
        assert {f"{part}_rmse", f"{part}_mae", f"{part}_r2"} <= provenance.metrics.keys()
    assert provenance.tags.keys() >= {"data_source", "data_rows", "data_sha256", "lightgbm_version"}


def test_it_holds_no_training_rows(artifact: Artifact) -> None:
    assert artifact.table is None
    assert artifact.plan is not None
    assert artifact.plan.references is None


def test_it_has_a_card_with_the_figures_of_its_provenance() -> None:
    card = msgspec.json.decode((BUNDLED / "card" / "card.json").read_bytes(), type=Card)
    assert card.metrics == read_provenance(BUNDLED).metrics


def test_its_page_is_what_its_card_says() -> None:
    card = msgspec.json.decode((BUNDLED / "card" / "card.json").read_bytes(), type=Card)
    assert (BUNDLED / "card" / "card.md").read_text(encoding="utf-8") == card_page(card)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_its_intervals_hold_what_they_state(level: float, artifact: Artifact, dataset: Dataset) -> None:
    assert artifact.intervals is not None
    rows = split_rows(len(dataset.target)).test
    answer = artifact.engine().evaluate(dataset.features[rows])
    assert answer.difficulty is not None
    half_width = artifact.intervals.half_width(answer.difficulty, level)
    held = np.abs(answer.prediction - dataset.target[rows]) <= half_width
    # Four standard errors of a share of 4,128 rows, calibrated on 3,303.
    assert held.mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) * (1 / 4128 + 1 / 3303)))


def test_every_feature_is_described() -> None:
    features = read_artifact(BUNDLED / "model").features
    assert tuple(feature.name for feature in features) == FEATURES
    for feature in features:
        assert feature.description
        assert feature.required
        assert feature.physical_range is not None
        assert feature.training_range is not None
        assert feature.physical_range[0] <= feature.training_range[0]
        assert feature.training_range[1] <= feature.physical_range[1]


def test_it_was_trained_on_the_data_that_its_provenance_names(dataset: Dataset) -> None:
    tags = read_provenance(BUNDLED).tags
    assert tags["data_sha256"] == dataset.sha256
    assert tags["data_rows"] == str(len(dataset.target))


def test_its_example_is_the_median_of_the_fit_rows_and_no_house(artifact: Artifact, dataset: Dataset) -> None:
    medians = np.median(dataset.features[split_rows(len(dataset.target)).fit], axis=0)
    np.testing.assert_array_equal(artifact.sample()[0], medians)
    assert not (dataset.features == medians).all(axis=1).any()


@pytest.mark.parametrize("part", ["fit", "validation", "test"])
def test_its_errors_are_those_that_its_provenance_states(part: str, artifact: Artifact, dataset: Dataset) -> None:
    metrics = read_provenance(BUNDLED).metrics
    rows = getattr(split_rows(len(dataset.target)), part)
    residual = artifact.engine().predict(dataset.features[rows]) - dataset.target[rows]
    assert np.sqrt(np.mean(residual**2)) == pytest.approx(metrics[f"{part}_rmse"], rel=0, abs=1e-9)
    assert np.abs(residual).mean() == pytest.approx(metrics[f"{part}_mae"], rel=0, abs=1e-9)


def test_its_error_on_the_test_rows_is_small() -> None:
    assert read_provenance(BUNDLED).metrics["test_rmse"] <= MAX_TEST_RMSE


def test_its_training_ranges_are_those_of_the_fit_rows(artifact: Artifact, dataset: Dataset) -> None:
    fit = dataset.features[split_rows(len(dataset.target)).fit]
    ranges = np.array([feature.training_range for feature in artifact.features])
    np.testing.assert_array_equal(ranges, np.column_stack([fit.min(axis=0), fit.max(axis=0)]))
