"""Fitted plans: parameters taken from the rows, and features that contain nothing of a row's own target."""

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.training import Dataset, Recipe, gaussian_process
from app.training.california import FULL
from app.training.dataset import SHARED_COPY, load_dataset
from app.training.fitting import OUTSIDE_QUANTILE, FittedPlan, fit_plan
from app.training.split import cluster_areas
from kernels.plan.plan import Factor, GaussianProcess, Log, Neighbours, Plan, PlanError, Term
from tests.training.recipes import NAMES, NEIGHBOURS, PROCESS, RECIPE, rmse, town

Array = NDArray[np.float64]


GIVEN = msgspec.structs.replace(
    RECIPE,
    references=(
        msgspec.structs.replace(NEIGHBOURS, scales=(1.0, 1.0)),
        GaussianProcess(
            output="process",
            terms=(
                Term(variance=1.0, factors=(Factor(shape="matern32", inputs=("north", "east"), lengths=(1.0, 1.0)),)),
                Term(variance=0.5, factors=(Factor(shape="exponential", inputs=("size",), lengths=(40.0,)),)),
            ),
        ),
    ),
)
"""The recipe with all parameters of its Gaussian process given."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return town(300)


@pytest.fixture(scope="module")
def fitted(data: Dataset) -> FittedPlan:
    return fit_plan(RECIPE, NAMES, data.features, data.target)


def derived(plan: Plan) -> list[int]:
    """Columns computed from the stored rows' targets."""
    wanted = ("near_mean", "near_weighted", "near_deviation", "near_median", "near_one", "process")
    return [index for index, name in enumerate(plan.outputs) if name.startswith(wanted)]


@pytest.fixture
def same_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves a Gaussian process's parameters at their start: fitting them uses the targets of all rows."""
    monkeypatch.setattr(gaussian_process, "fit_covariance", lambda step, columns, target: step)


def skill(predicted: NDArray[np.floating], actual: Array) -> float:
    """Share of the variance that is explained; negative for predictions worse than the mean."""
    return 1 - float(np.mean((predicted - actual) ** 2) / actual.var())


@pytest.mark.usefixtures("same_covariance")
def test_a_rows_own_target_never_changes_its_own_features(data: Dataset) -> None:
    before = fit_plan(GIVEN, NAMES, data.features, data.target)
    areas = np.arange(len(data.target), dtype=np.int32) // 25
    columns = derived(before.plan)
    for row in (0, 17, 123, 299):
        target = data.target.copy()
        target[row] += 100
        after = fit_plan(GIVEN, NAMES, data.features, target)
        for way in ("own_features", "area_features"):
            given = () if way == "own_features" else (areas,)
            old, new = getattr(before, way)(*given), getattr(after, way)(*given)
            np.testing.assert_allclose(new[row, columns], old[row, columns], rtol=0, atol=2e-3)
            others = np.delete(np.arange(len(target)), row)
            # And it does change others', or this would show nothing.
            assert np.abs(new[others][:, columns] - old[others][:, columns]).max() > 1


@pytest.mark.usefixtures("same_covariance")
def test_no_target_of_its_area_changes_a_rows_area_features(data: Dataset) -> None:
    areas = cluster_areas(RECIPE.areas, NAMES, data.features, 0)  # type: ignore[arg-type]
    target = data.target.copy()
    inside = areas == 3
    target[inside] += np.random.default_rng(1).normal(0, 50, inside.sum())
    before = fit_plan(GIVEN, NAMES, data.features, data.target).area_features(areas)
    fitted = fit_plan(GIVEN, NAMES, data.features, target)
    after, columns = fitted.area_features(areas), derived(fitted.plan)
    np.testing.assert_allclose(after[inside][:, columns], before[inside][:, columns], rtol=0, atol=5e-3)
    assert np.abs(after[~inside][:, columns] - before[~inside][:, columns]).max() > 1


def test_shuffled_targets_give_no_skill_on_held_out_rows() -> None:
    data = town(900)
    shuffled = np.random.default_rng(2).permutation(data.target)
    fitted = fit_plan(RECIPE, NAMES, data.features[:600], shuffled[:600])
    own, held = fitted.own_features(), fitted.features(data.features[600:])
    for index in derived(fitted.plan):
        name = fitted.plan.outputs[index]
        if "deviation" in name or "slope" in name:
            continue
        # No better than the mean, beyond what 300 rows can show by chance; nor for the fit rows themselves.
        for features, target in ((own, shuffled[:600]), (held, shuffled[600:])):
            assert skill(features[:, index], target) < 0.04, name


def test_true_targets_do_give_skill(data: Dataset) -> None:
    train, rest = slice(0, 200), slice(200, 300)
    fitted = fit_plan(RECIPE, NAMES, data.features[train], data.target[train])
    predicted = fitted.features(data.features[rest])[:, fitted.plan.outputs.index("process")]
    assert rmse(predicted, data.target[rest]) < 0.5 * data.target[rest].std()


@pytest.mark.usefixtures("same_covariance")
def test_features_of_fit_rows_are_those_of_a_plan_without_them(data: Dataset, fitted: FittedPlan) -> None:
    """The definition of leaving a row out, followed literally for a few rows."""
    own = fitted.own_features()
    steps = fitted.plan.reference_steps
    recipe = msgspec.structs.replace(RECIPE, references=steps)
    for row in (3, 77, 250):
        rest = np.delete(np.arange(len(data.target)), row)
        without = fit_plan(recipe, NAMES, data.features[rest], data.target[rest])
        np.testing.assert_allclose(own[row], without.features(data.features[row : row + 1])[0], rtol=2e-3, atol=2e-3)


@pytest.mark.usefixtures("same_covariance")
def test_area_features_are_those_of_a_plan_without_the_area(data: Dataset, fitted: FittedPlan) -> None:
    areas = cluster_areas(RECIPE.areas, NAMES, data.features, 0)  # type: ignore[arg-type]
    features = fitted.area_features(areas)
    recipe = msgspec.structs.replace(RECIPE, references=fitted.plan.reference_steps)
    for area in (0, 5):
        inside = areas == area
        without = fit_plan(recipe, NAMES, data.features[~inside], data.target[~inside])
        expected = without.features(data.features[inside])
        np.testing.assert_allclose(features[inside], expected, rtol=2e-3, atol=5e-3)


def test_open_parameters_are_fitted_on_the_fit_rows(data: Dataset, fitted: FittedPlan) -> None:
    near, process = fitted.plan.reference_steps
    assert isinstance(near, Neighbours)
    assert isinstance(process, GaussianProcess)
    assert near.scales == pytest.approx(data.features[:, :2].std(axis=0))
    assert near.regressions[0].scales == pytest.approx([data.features[:, 2].std()])
    nearest = fitted.own_features()[:, fitted.plan.outputs.index("near_nearest")]
    assert near.outside_distance == pytest.approx(np.quantile(nearest, OUTSIDE_QUANTILE))
    assert all(factor.lengths for term in process.terms for factor in term.factors)
    for index, column in enumerate(fitted.plan.inputs):
        assert column.training_range == (data.features[:, index].min(), data.features[:, index].max())


def test_stated_parameters_are_kept(data: Dataset) -> None:
    stated = msgspec.structs.replace(NEIGHBOURS, scales=(2.0, 3.0), outside_distance=7.0)
    recipe = msgspec.structs.replace(RECIPE, references=(stated,), outputs=("size", "near_nearest", "near_mean_4"))
    plan = fit_plan(recipe, NAMES, data.features, data.target).plan
    assert plan.outputs == ("size", "near_nearest", "near_mean_4")
    (near,) = plan.reference_steps
    assert isinstance(near, Neighbours)
    assert (near.scales, near.outside_distance) == ((2.0, 3.0), 7.0)


def test_the_table_is_the_fit_rows_in_their_order(data: Dataset, fitted: FittedPlan) -> None:
    assert fitted.table is not None
    assert fitted.plan.references is not None
    columns = fitted.plan.references.columns
    assert set(columns) == {"north", "east", "size", "age", "target", "weights"}
    np.testing.assert_array_equal(fitted.table[:, columns.index("size")], data.features[:, 2])
    np.testing.assert_array_equal(fitted.table[:, columns.index("target")], data.target)


def test_rows_without_a_coordinate_have_no_reference_features(data: Dataset) -> None:
    features = data.features.copy()
    features[[4, 9], 0] = np.nan
    fitted = fit_plan(RECIPE, NAMES, features, data.target)
    assert fitted.table is not None
    assert len(fitted.table) == len(features) - 2
    own = fitted.own_features()
    areas = np.zeros(len(features), dtype=np.int32)
    areas[150:] = 1
    for values in (own, fitted.area_features(areas)):
        assert np.isnan(values[[4, 9]][:, derived(fitted.plan)]).all()
        assert np.isfinite(np.delete(values, [4, 9], axis=0)).all()


def test_without_references_there_is_no_table(data: Dataset) -> None:
    fitted = fit_plan(Recipe(steps=RECIPE.steps), NAMES, data.features, data.target)
    assert fitted.table is None
    assert fitted.plan.references is None
    assert fitted.plan.outputs == (*NAMES, "area")
    np.testing.assert_array_equal(fitted.own_features(), fitted.features(data.features))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(steps=(Log(output="l", input="width"),)), "'width' is unknown"),
        (Recipe(references=(NEIGHBOURS,), outputs=("near_mean_5",)), "'near_mean_5' is unknown"),
        (Recipe(references=(msgspec.structs.replace(NEIGHBOURS, inputs=("width",)),)), "'width'"),
        (Recipe(references=(PROCESS, msgspec.structs.replace(PROCESS, output="second"))), "weights"),
    ],
)
def test_an_invalid_recipe_is_refused_with_its_reason(recipe: Recipe, message: str, data: Dataset) -> None:
    with pytest.raises(PlanError, match=message):
        fit_plan(recipe, NAMES, data.features, data.target)


def test_areas_are_near_together_and_the_same_every_time(data: Dataset) -> None:
    areas: Any = RECIPE.areas
    labels = cluster_areas(areas, NAMES, data.features, 0)
    np.testing.assert_array_equal(labels, cluster_areas(areas, NAMES, data.features, 0))
    assert len(np.unique(labels)) == areas.count
    spread = np.mean([data.features[labels == label, :2].std(axis=0) for label in range(areas.count)])
    assert spread < 0.5 * data.features[:, :2].std(axis=0).mean()


def test_rows_without_a_place_are_an_area_of_their_own(data: Dataset) -> None:
    areas: Any = RECIPE.areas
    features = data.features.copy()
    features[[4, 9], 0] = np.nan
    labels = cluster_areas(areas, NAMES, features, 0)
    assert labels[4] == labels[9]
    assert (labels == labels[4]).sum() == 2


def test_the_california_plan_leaks_nothing() -> None:
    """On a sample of the real rows, with the full recipe: shuffled prices cannot be predicted."""
    if not SHARED_COPY.is_file():
        pytest.skip("the California Housing data is not beside the checkout")
    data = load_dataset(SHARED_COPY)
    rows = np.random.default_rng(0).permutation(len(data.target))[:1200]
    X, y = data.features[rows], np.random.default_rng(1).permutation(data.target[rows])
    fitted = fit_plan(FULL, data.names, X[:900], y[:900])
    held, own = fitted.features(X[900:]), fitted.own_features()
    for name in ("process", "near_mean_8", "near_mean_64", "near_median_16", "near_four_local", "near_six_local"):
        index = fitted.plan.outputs.index(name)
        assert skill(own[:, index], y[:900]) < 0.03, name
        assert skill(held[:, index], y[900:]) < 0.03, name
