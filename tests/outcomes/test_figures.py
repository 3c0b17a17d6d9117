"""Figures of error are those of scikit-learn."""

import numpy as np
import pytest
from sklearn import calibration, metrics

from app.outcomes import figures
from app.outcomes.window import of_classes

RANDOM = np.random.default_rng(3)


@pytest.fixture(scope="module")
def binary() -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with ties, a 0 and a 1 among them."""
    probability = np.round(RANDOM.uniform(size=500), 2)
    probability[:2] = 0.0, 1.0
    return (RANDOM.uniform(size=500) < probability).astype(np.float64), probability


@pytest.fixture(scope="module")
def classes() -> tuple[np.ndarray, np.ndarray]:
    scores = np.exp(RANDOM.normal(size=(500, 4)))
    return RANDOM.integers(0, 4, 500).astype(np.float64), scores / scores.sum(axis=1, keepdims=True)


def test_errors_of_a_regression() -> None:
    actual = RANDOM.normal(2, 1, 300)
    predicted = actual + RANDOM.normal(0, 0.5, 300)
    errors = predicted - actual
    assert figures.rmse(errors) == pytest.approx(metrics.root_mean_squared_error(actual, predicted), rel=1e-12)
    assert figures.r2(actual, errors) == pytest.approx(metrics.r2_score(actual, predicted), rel=1e-12)
    assert figures.r2(np.ones(5), np.arange(5.0)) is None


def test_coverage_counts_the_bounds_as_inside() -> None:
    actual, lower, upper = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 2.5, 0.0], [1.0, 1.0, 3.0, 2.9]])
    assert figures.coverage(actual, lower, upper) == 0.5


def test_figures_of_two_classes(binary: tuple[np.ndarray, np.ndarray]) -> None:
    actual, probability = binary
    found = of_classes(actual, probability)
    assert found.log_loss == pytest.approx(metrics.log_loss(actual, probability), rel=1e-12)
    assert found.auc == pytest.approx(metrics.roc_auc_score(actual, probability), rel=1e-12)
    observed, mean = calibration.calibration_curve(actual, probability, n_bins=10)
    places = np.searchsorted(np.linspace(0, 1, 11)[1:-1], probability)
    shares = np.bincount(places, minlength=10) / len(actual)
    assert found.calibration_error == pytest.approx(float(shares @ np.abs(observed - mean)), rel=1e-12)


def test_a_certain_error_costs_what_scikit_learn_says() -> None:
    actual, probability = np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.5])
    assert figures.log_loss(actual, probability) == pytest.approx(metrics.log_loss(actual, probability), rel=1e-12)


def test_figures_of_more_classes(classes: tuple[np.ndarray, np.ndarray]) -> None:
    actual, probabilities = classes
    found = of_classes(actual, probabilities)
    assert found.log_loss == pytest.approx(metrics.log_loss(actual, probabilities), rel=1e-12)
    assert found.auc == pytest.approx(metrics.roc_auc_score(actual, probabilities, multi_class="ovr"), rel=1e-12)
    top = probabilities.max(axis=1)
    hits = (probabilities.argmax(axis=1) == actual).astype(np.float64)
    observed, mean = calibration.calibration_curve(hits, top, n_bins=10)
    places = np.searchsorted(np.linspace(0, 1, 11)[1:-1], top)
    shares = np.bincount(places, minlength=10) / len(actual)
    assert found.calibration_error == pytest.approx(float(shares[shares > 0] @ np.abs(observed - mean)), rel=1e-12)


def test_an_area_needs_rows_of_both_kinds(classes: tuple[np.ndarray, np.ndarray]) -> None:
    actual, probabilities = classes
    assert figures.auc(np.ones(5, np.bool_), np.arange(5.0)) is None
    assert of_classes(np.minimum(actual, 2), probabilities).auc is None
    assert of_classes(np.linspace(0, 1, 100), np.linspace(0, 1, 100)).auc is None
    wide = np.full((100, 21), 1 / 21)
    assert of_classes(np.arange(100.0) % 21, wide).auc is None
