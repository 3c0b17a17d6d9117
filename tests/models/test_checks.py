"""Each check of a model before it is served: what passes, and why others are refused."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.config.settings import Settings
from app.feature import Category, Feature, Kind
from app.models.artifact import Artifact, read_artifact
from app.models.checks import (
    R2_NAMES,
    RMSE_NAMES,
    check_interface,
    check_labels,
    check_metrics,
    check_predictions,
    check_scores,
    find_not_finite,
)
from app.models.identity import ModelIdentity
from app.models.process.worker import ModelWorker
from app.models.refusal import Check, ModelRefused
from app.models.served import ServedModel, serve_artifact
from kernels.cost import vary
from kernels.forest.booster import BoosterForest
from kernels.forest.forest import Forest
from tests.kernels.forest.boosters import Split, model_text, tree_text
from tests.models.support import (
    NAMES,
    SavedModel,
    altered,
    changed,
    referring_parts,
    save_booster,
    save_referring,
    save_text,
    tiny_booster,
    tiny_rows,
    with_booster,
)


def lightgbms(booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """LightGBM's raw scores, asked for in this process."""
    return ModelWorker(Settings()).raw_scores(booster, rows)


def refusal(check: Check, refuse: Callable[..., object], *arguments: Any) -> str:
    """Why a check refuses; that it is the check that it says it is."""
    with pytest.raises(ModelRefused) as caught:
        refuse(*arguments)
    assert caught.value.check == check
    return str(caught.value)


def test_files_with_the_digest_of_the_registry_pass(saved: SavedModel) -> None:
    digest = read_artifact(saved.directory).digest
    assert read_artifact(saved.directory, digest).digest == digest


@pytest.mark.parametrize("expected", ["0" * 64, "", "no digest at all, " + "x" * 5000])
def test_files_of_another_digest_are_refused_before_they_are_parsed(
    expected: str, saved: SavedModel, tmp_path: Path
) -> None:
    digest = read_artifact(saved.directory).digest
    reason = refusal("digest", read_artifact, saved.directory, expected)
    assert reason == f"the files' digest begins with {digest[:12]!r}, and should begin with {expected[:12]!r}"
    (altered(saved.directory, tmp_path / "damaged") / "model.lgb").write_bytes(b"\xff")
    assert "and should begin with" in refusal("digest", read_artifact, tmp_path / "damaged", digest)


def test_without_limits_no_metric_is_asked_for() -> None:
    check_metrics({}, Settings())
    check_metrics({"r2": math.nan, "rmse": 1e9}, Settings())


LIMITED = Settings(model_min_r2=0.5, model_max_rmse=0.25)


@pytest.mark.parametrize(
    "metrics",
    [
        {"r2": 0.5, "rmse": 0.25},
        {"test_r2": 1.0, "val_rmse": 0.0},
        {"r2_score": 0.7, "root_mean_squared_error": 0.1, "mae": 9.0},
        {"r2": math.inf, "rmse": -math.inf},
    ],
)
def test_metrics_within_the_limits_or_at_them_pass(metrics: dict[str, float]) -> None:
    check_metrics(metrics, LIMITED)


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"r2": math.nextafter(0.5, 0), "rmse": 0.1}, "the run's r2 is 0.49999999999999994, and MODEL_MIN_R2 is 0.5"),
        ({"r2": -0.25, "rmse": 0.1}, "the run's r2 is -0.25, and MODEL_MIN_R2 is 0.5"),
        ({"r2": 0.9, "rmse": 0.2501}, "the run's rmse is 0.2501, and MODEL_MAX_RMSE is 0.25"),
        ({"r2": math.nan, "rmse": 0.1}, "the run's r2 is nan, and MODEL_MIN_R2 is 0.5"),
        ({"r2": 0.9, "rmse": math.nan}, "the run's rmse is nan, and MODEL_MAX_RMSE is 0.25"),
        ({"r2": 0.9, "rmse": math.inf}, "the run's rmse is inf, and MODEL_MAX_RMSE is 0.25"),
        ({"rmse": 0.1}, "MODEL_MIN_R2 is set, and the run has no metric test_r2 or r2_score or "),
        ({"r2": 0.9}, "MODEL_MAX_RMSE is set, and the run has no metric test_rmse or root_mean_squared_error or "),
        ({"R2": 0.9, "rmse": 0.1}, "MODEL_MIN_R2 is set, and the run has no metric"),
    ],
)
def test_metrics_beyond_a_limit_and_runs_that_do_not_tell_are_refused(metrics: dict[str, float], reason: str) -> None:
    assert refusal("metrics", check_metrics, metrics, LIMITED).startswith(reason)


def test_each_limit_stands_alone() -> None:
    check_metrics({"r2": 0.5}, Settings(model_min_r2=0.5))
    check_metrics({"rmse": 0.5}, Settings(model_max_rmse=0.5))
    assert "MODEL_MIN_R2" in refusal("metrics", check_metrics, {"rmse": 0.0}, Settings(model_min_r2=0.0))
    assert "MODEL_MAX_RMSE" in refusal("metrics", check_metrics, {"r2": 1.0}, Settings(model_max_rmse=0.0))


@pytest.mark.parametrize(("names", "good", "bad"), [(R2_NAMES, 0.9, 0.1), (RMSE_NAMES, 0.1, 0.9)])
def test_the_first_of_a_metrics_names_counts(names: tuple[str, ...], good: float, bad: float) -> None:
    settings = Settings(model_min_r2=0.5) if names is R2_NAMES else Settings(model_max_rmse=0.5)
    for index, name in enumerate(names):
        later = names[index + 1 :]
        check_metrics(dict.fromkeys(later, bad) | {name: good}, settings)
        assert f"the run's {name} is " in refusal(
            "metrics", check_metrics, dict.fromkeys(later, good) | {name: bad}, settings
        )


def kinds_of_model(tmp_path: Path) -> dict[str, Path]:
    rows = tiny_rows()
    categories = tiny_booster(categorical_feature=[2], min_data_per_group=2, cat_smooth=1)
    return {
        "plan, stored rows and intervals": save_referring(tmp_path / "referring"),
        "categories": save_booster(categories, tmp_path / "categories"),
        "classes": save_booster(
            tiny_booster(rows[:, 2] % 3, objective="multiclass", num_class=3), tmp_path / "classes"
        ),
        "averaged": save_booster(
            tiny_booster(boosting="rf", bagging_freq=1, bagging_fraction=0.6), tmp_path / "averaged"
        ),
        "constant": save_booster(tiny_booster(np.full(50, 2.5)), tmp_path / "constant"),
        "no trees": with_booster(model_text([], 3), tmp_path / "constant", tmp_path / "none"),
    }


def test_every_kind_of_model_whose_scores_are_lightgbms_passes(tmp_path: Path) -> None:
    for kind, directory in kinds_of_model(tmp_path).items():
        artifact = read_artifact(directory)
        assert isinstance(artifact.forest, Forest), kind
        check_scores(artifact, artifact.engine(), directory, lightgbms)


def test_both_forests_are_checked_on_example_like_and_extreme_rows(referring: Path) -> None:
    asked: list[tuple[Path, NDArray[np.float64]]] = []

    def listening(booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        asked.append((booster, rows))
        return lightgbms(booster, rows)

    artifact = read_artifact(referring)
    check_scores(artifact, artifact.engine(), referring, listening)
    assert [booster for booster, _ in asked] == [referring / "model.lgb", referring / "difficulty.lgb"]
    sample = artifact.sample()
    usual = artifact.engine().transform(np.vstack([sample, vary(sample)]))
    for _, rows in asked:
        np.testing.assert_array_equal(rows[: len(usual)], usual)
        assert np.isnan(rows[len(usual) :]).any(axis=0).all()
        assert np.isinf(rows[len(usual) :]).any(axis=0).all()


@pytest.mark.parametrize("part", ["booster", "difficulty"])
@pytest.mark.parametrize("row", [0, 1, 513, -1])
def test_a_score_that_differs_by_its_last_bit_in_one_row_is_refused(part: str, row: int, referring: Path) -> None:
    wrong = "model.lgb" if part == "booster" else "difficulty.lgb"

    def differing(booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = lightgbms(booster, rows)
        if booster.name == wrong:
            scores[row] = np.nextafter(scores[row], np.inf)
        return scores

    artifact = read_artifact(referring)
    reason = refusal("kernels", check_scores, artifact, artifact.engine(), referring, differing)
    assert reason == "the kernels' raw scores differ from LightGBM's for 1 of 1537 rows"


def test_rows_of_several_outputs_are_counted_once(tmp_path: Path) -> None:
    booster = tiny_booster(tiny_rows()[:, 2] % 3, objective="multiclass", num_class=3)
    directory = save_booster(booster, tmp_path / "model")

    def differing(booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = lightgbms(booster, rows)
        scores[7] += 1
        scores[9, 2] += 1
        return scores

    artifact = read_artifact(directory)
    assert " for 2 of 1537 rows" in refusal("kernels", check_scores, artifact, artifact.engine(), directory, differing)


def test_zeros_of_another_sign_are_refused(tmp_path: Path) -> None:
    directory = save_booster(tiny_booster(np.zeros(50)), tmp_path / "model")
    artifact = read_artifact(directory)
    reason = refusal(
        "kernels", check_scores, artifact, artifact.engine(), directory, lambda path, rows: -lightgbms(path, rows)
    )
    assert "for 1537 of 1537 rows" in reason


def test_scores_of_another_shape_are_refused(saved: SavedModel) -> None:
    artifact = read_artifact(saved.directory)
    reason = refusal(
        "kernels",
        check_scores,
        artifact,
        artifact.engine(),
        saved.directory,
        lambda path, rows: lightgbms(path, rows)[:, None],
    )
    assert reason == "LightGBM gives scores of shape (1537, 1), the kernels (1537,)"


@pytest.mark.parametrize("key", ["threshold", "leaf_value"])
def test_a_forest_that_was_read_wrong_by_last_bits_is_refused(key: str, saved: SavedModel) -> None:
    text = saved.booster.model_to_string()
    values = next(line for line in text.splitlines() if line.startswith(f"{key}=")).partition("=")[2].split()
    moved = changed(text, key, " ".join(repr(math.nextafter(float(value), math.inf)) for value in values))
    artifact = msgspec.structs.replace(read_artifact(saved.directory), forest=Forest.from_model_text(moved))
    reason = refusal("kernels", check_scores, artifact, artifact.engine(), saved.directory, lightgbms)
    assert "differ from LightGBM's" in reason


def not_to_be_asked(booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    raise AssertionError


def test_a_model_that_lightgbm_itself_evaluates_is_not_compared_with_it(tmp_path: Path) -> None:
    directory = save_booster(tiny_booster(linear_tree=True), tmp_path / "model")
    artifact = read_artifact(directory)
    assert isinstance(artifact.forest, BoosterForest)
    check_scores(artifact, artifact.engine(), directory, not_to_be_asked)


def test_a_booster_that_lightgbm_refuses_is_refused(saved: SavedModel) -> None:
    def refusing(text: str, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        raise ModelRefused("LightGBM refuses the booster", "kernels")

    artifact = read_artifact(saved.directory)
    reason = refusal("kernels", check_scores, artifact, artifact.engine(), saved.directory, refusing)
    assert reason == "LightGBM refuses the booster"


def with_leaves(text: str, *values: float) -> str:
    """A booster text with other leaf values in its first tree."""
    return changed(text, "leaf_value", " ".join(map(str, values)))


def test_models_with_finite_answers_pass(saved: SavedModel, referring: Path) -> None:
    for directory in (saved.directory, referring):
        artifact = read_artifact(directory)
        check_predictions(artifact, artifact.engine())


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_a_model_that_predicts_infinity_is_refused(value: float, saved: SavedModel, tmp_path: Path) -> None:
    infinite = with_leaves(saved.booster.model_to_string(), *[value] * 6)
    artifact = read_artifact(with_booster(infinite, saved.directory, tmp_path / "model"))
    reason = refusal("prediction", check_predictions, artifact, artifact.engine())
    assert reason == "the prediction for the input example is not finite"


@pytest.mark.parametrize("objective", ["poisson", "gamma", "tweedie"])
def test_a_row_without_a_finite_prediction_is_found_and_the_model_passes(
    objective: str, saved: SavedModel, tmp_path: Path
) -> None:
    text = model_text([tree_text([Split(2, 1000.5, 0)], [0], [0.5, 800.0])], 3, objective=objective)
    artifact = read_artifact(with_booster(text, saved.directory, tmp_path / "model"))
    check_predictions(artifact, artifact.engine())
    (found,) = find_not_finite(artifact)
    assert found.message == (
        "the booster's prediction is not finite for some rows; such a row is answered with an error"
    )
    assert (found.prediction, found.features) == ("inf", {"Column_2": 1001.0})


def test_no_row_is_found_that_could_not_be_sent(tmp_path: Path) -> None:
    missing = model_text([tree_text([Split(0, math.inf, 8)], [0], [0.5, 800.0])], 1, objective="poisson")
    artifact = read_artifact(save_text(missing, tmp_path / "missing"))
    feature = msgspec.structs.replace(artifact.features[0], nullable=False)
    assert find_not_finite(msgspec.structs.replace(artifact, features=(feature,))) == ()
    optional = msgspec.structs.replace(artifact, features=(msgspec.structs.replace(feature, required=False),))
    for taking_missing in (artifact, optional):
        assert [found.features for found in find_not_finite(taking_missing)] == [{"Column_0": None}]
    for kind, low, high, sent in (
        ("integer", 1.0, 2.0, False),
        ("integer", 1.0, 2.5, True),
        ("boolean", 1.0, 2.0, False),
    ):
        trees = [tree_text([Split(0, low, 0), Split(0, math.nextafter(high, 0), 0)], [0, 1], [0.5, 800.0, 0.5])]
        artifact = read_artifact(save_text(model_text(trees, 1, objective="poisson"), tmp_path / f"{kind}{high}"))
        typed = msgspec.structs.replace(artifact, features=(msgspec.structs.replace(feature, kind=kind),))
        assert bool(find_not_finite(artifact)), kind
        assert bool(find_not_finite(typed)) == sent, kind


def test_a_row_with_a_category_is_told_by_its_value(tmp_path: Path) -> None:
    text = model_text([tree_text([Split(0, 3.5, 0)], [0], [0.5, 800.0])], 1, objective="poisson")
    artifact = read_artifact(save_text(text, tmp_path / "model"))
    for values, told in ((("a", "b", "c"), []), (("a", "b", "c", "d", "e"), [{"Column_0": "e"}])):
        feature = Feature(name="Column_0", kind="category", categories=values)
        model = msgspec.structs.replace(artifact, features=(feature,))
        assert [found.features for found in find_not_finite(model)] == told


def test_a_prediction_of_some_category_is_checked(tmp_path: Path) -> None:
    text = model_text([tree_text([Split(0, 3.5, 0)], [0], [0.5, math.inf])], 1)
    artifact = read_artifact(save_text(text, tmp_path / "model"))
    for values in (("a", "b", "c"), ("a", "b", "c", "d", "e")):
        feature = Feature(name="Column_0", kind="category", categories=values)
        model = msgspec.structs.replace(artifact, features=(feature,))
        if len(values) == 3:
            check_predictions(model, model.engine())
        else:
            reason = refusal("prediction", check_predictions, model, model.engine())
            assert reason == "the prediction for rows like the input example is not finite"


def test_a_plans_possible_features_are_reported(tmp_path: Path) -> None:
    outputs = referring_parts().plan.outputs  # type: ignore[union-attr]
    text = model_text([tree_text([Split(0, 1.5, 0)], [0], [0.5, math.inf])], len(outputs))
    artifact = read_artifact(save_referring(tmp_path / "model", difficulty=text))
    (found,) = find_not_finite(artifact)
    assert found.message.startswith("the difficulty's prediction is not finite for some of the features that its plan")


def test_models_whose_leaves_cannot_be_too_much_are_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.models.checks.extreme_rows", not_to_be_asked)
    for kind, directory in kinds_of_model(tmp_path).items():
        assert find_not_finite(read_artifact(directory)) == (), kind


def test_a_model_whose_trees_sum_up_to_no_number_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    text = model_text([tree_text([], [], [math.inf]), tree_text([], [], [-math.inf])], 3)
    artifact = read_artifact(with_booster(text, saved.directory, tmp_path / "model"))
    assert np.isnan(artifact.forest.predict(artifact.sample())).all()
    reason = refusal("prediction", check_predictions, artifact, artifact.engine())
    assert reason == "the prediction for the input example is not finite"


def test_an_infinite_prediction_near_the_example_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model")
    # At the first split's threshold, so that rows like it go either way.
    root = saved.booster.dump_model()["tree_info"][0]["tree_structure"]
    example = [root["threshold"] if index == root["split_feature"] else 1.0 for index in range(3)]
    (directory / "input_example.json").write_bytes(msgspec.json.encode({"columns": NAMES, "data": [example]}))
    sample = read_artifact(directory).sample()
    (own,), *others = np.asarray(saved.booster.predict(np.vstack([sample, vary(sample)]), pred_leaf=True))[:, :1]
    assert any(leaf != own for (leaf,) in others)
    infinite = with_leaves(saved.booster.model_to_string(), *(1.0 if leaf == own else math.inf for leaf in range(6)))
    (directory / "model.lgb").write_text(infinite)
    artifact = read_artifact(directory)
    reason = refusal("prediction", check_predictions, artifact, artifact.engine())
    assert reason == "the prediction for rows like the input example is not finite"


def test_an_infinite_difficulty_is_refused(tmp_path: Path) -> None:
    text = referring_parts().difficulty
    assert text is not None
    leaves = next(line for line in text.splitlines() if line.startswith("leaf_value="))
    infinite = with_leaves(text, *[math.inf] * len(leaves.split(" ")))
    artifact = read_artifact(save_referring(tmp_path / "model", difficulty=infinite))
    reason = refusal("prediction", check_predictions, artifact, artifact.engine())
    assert reason == "the difficulty of the input example is not finite"


ONE_OUTPUT = [("no", "yes"), (False, True), (-(2**63), 2**64 - 1), (0.5, 1), ("only",), ("x" * 1000, "")]


@pytest.mark.parametrize("labels", [*ONE_OUTPUT, None], ids=repr)
def test_labels_that_fit_the_booster_pass(labels: tuple[Category, ...] | None, saved: SavedModel) -> None:
    check_labels(msgspec.structs.replace(read_artifact(saved.directory), labels=labels))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ((), "the model has 0 class labels, and its booster 2 classes"),
        (("a", "b", "c"), "the model has 3 class labels, and its booster 2 classes"),
        ((0.0, math.nan), "a class label is not a finite number"),
        ((0.0, math.inf), "a class label is not a finite number"),
        (("a", "x" * 1001), "a class label has more than 1000 characters"),
        (("a", "\ud800"), "a class label is text that is no Unicode, or needs more than 64 bits"),
        ((0, 2**64), "a class label is text that is no Unicode, or needs more than 64 bits"),
    ],
    ids=range(7),
)
def test_labels_that_fit_no_answer_are_refused(labels: tuple[Category, ...], reason: str, saved: SavedModel) -> None:
    artifact = msgspec.structs.replace(read_artifact(saved.directory), labels=labels)
    assert refusal("agreement", check_labels, artifact) == reason


def test_a_model_without_the_labels_of_the_one_in_use_is_refused(saved: SavedModel) -> None:
    bare = read_artifact(saved.directory)
    labelled = msgspec.structs.replace(bare, labels=("no", "yes"))
    check_interface(labelled, in_use(bare))
    check_interface(msgspec.structs.replace(bare, labels=("no", "maybe")), in_use(labelled))
    assert "it gives no class labels" in refusal("interface", check_interface, bare, in_use(labelled))


def taking(saved: SavedModel, *features: Feature) -> Artifact:
    return msgspec.structs.replace(read_artifact(saved.directory), features=features)


def in_use(artifact: Artifact) -> ServedModel:
    identity = ModelIdentity(name="houses", version="3")
    return serve_artifact(artifact, artifact.engine(), identity, {}, "stage Production")


INCOME, ROOMS = Feature(name="income"), Feature(name="rooms", kind="integer")
OPTIONAL = Feature(name="age", required=False)
COLOR = Feature(name="color", kind="category", categories=("mauve", "teal"))
STRICT_COLOR = msgspec.structs.replace(COLOR, unseen="refuse")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((INCOME, ROOMS), (INCOME, ROOMS)),
        ((INCOME, ROOMS), (ROOMS, INCOME)),
        ((INCOME,), (INCOME, OPTIONAL)),
        ((INCOME, Feature(name="age")), (INCOME, OPTIONAL)),
        ((INCOME,), (Feature(name="income", unit="EUR", description="a year", training_range=(0.0, 1.0)),)),
        ((), (OPTIONAL,)),
        ((INCOME,), (Feature(name="income", nullable=True),)),
        ((COLOR,), (msgspec.structs.replace(COLOR, categories=("blue", 3)),)),
        ((STRICT_COLOR,), (msgspec.structs.replace(STRICT_COLOR, categories=("teal", "blue", "mauve")),)),
    ],
    ids=[
        "same",
        "other order",
        "one more, optional",
        "no longer required",
        "described otherwise",
        "from nothing",
        "may be missing",
        "other categories",
        "more categories",
    ],
)
def test_a_model_that_takes_all_that_the_one_in_use_takes_passes(
    old: tuple[Feature, ...], new: tuple[Feature, ...], saved: SavedModel
) -> None:
    check_interface(taking(saved, *new), in_use(taking(saved, *old)))


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        ((INCOME, ROOMS), (INCOME,), "it does not take 'rooms'"),
        ((INCOME, OPTIONAL), (INCOME,), "it does not take 'age'"),
        ((INCOME,), (INCOME, ROOMS), "it requires 'rooms'"),
        ((INCOME, OPTIONAL), (INCOME, Feature(name="age")), "it requires 'age'"),
        ((INCOME,), (Feature(name="Income"),), "it does not take 'income', it requires 'Income'"),
        (
            (INCOME, ROOMS, OPTIONAL),
            (Feature(name="income", kind="integer"), Feature(name="age")),
            "it does not take 'rooms', it requires 'age', its 'income' is integer, not number",
        ),
        ((Feature(name="income", nullable=True),), (INCOME,), "its 'income' may not be missing"),
        ((COLOR,), (msgspec.structs.replace(COLOR, categories=(1, 2)),), "its 'color' does not take text"),
        ((COLOR,), (STRICT_COLOR,), "its 'color' does not take values that are none of its categories"),
        (
            (STRICT_COLOR,),
            (msgspec.structs.replace(STRICT_COLOR, categories=("mauve", "pink")),),
            "its 'color' does not take 1 of the categories",
        ),
        (
            (Feature(name="age", kind="integer", physical_range=(-(2.0**53), 2.0**53)),),
            (Feature(name="age", kind="integer", physical_range=(-(2.0**31), 2.0**31 - 1)),),
            "its 'age' has the narrower range -2147483648 to 2147483647",
        ),
    ],
    ids=[
        "lacks one",
        "lacks an optional one",
        "requires one more",
        "now required",
        "renamed",
        "several",
        "no longer nullable",
        "numbers for text",
        "refuses unseen",
        "fewer categories",
        "narrower range",
    ],
)
def test_a_model_that_callers_of_the_one_in_use_could_not_use_is_refused(
    old: tuple[Feature, ...], new: tuple[Feature, ...], problems: str, saved: SavedModel
) -> None:
    reason = refusal("interface", check_interface, taking(saved, *new), in_use(taking(saved, *old)))
    assert reason == f"callers of version 3 could not use it: {problems} (pin it to serve it all the same)"


@pytest.mark.parametrize(("old", "new"), [*itertools.product(get_args(Kind), repeat=2)])
def test_a_feature_may_only_widen(old: Kind, new: Kind, saved: SavedModel) -> None:
    artifact, current = (taking(saved, Feature(name="income", kind=kind, required=False)) for kind in (new, old))
    if new in {old, *{"integer": ["number"], "boolean": ["integer", "number"]}.get(old, [])}:
        check_interface(artifact, in_use(current))
    else:
        assert f"its 'income' is {new}, not {old}" in refusal("interface", check_interface, artifact, in_use(current))


def test_only_the_first_of_many_problems_are_reported(saved: SavedModel) -> None:
    old = [Feature(name=f"feature_{index}") for index in range(1000)]
    reason = refusal("interface", check_interface, taking(saved), in_use(taking(saved, *old)))
    assert [f"'feature_{index}'" in reason for index in range(7)] == [True] * 5 + [False] * 2


@pytest.mark.parametrize("outputs", [(1, 3), (3, 1)])
def test_a_model_of_more_or_fewer_outputs_is_refused(
    outputs: tuple[int, int], saved: SavedModel, tmp_path: Path
) -> None:
    booster = tiny_booster(tiny_rows()[:, 2] % 3, objective="multiclass", num_class=3)
    models = {1: read_artifact(saved.directory), 3: read_artifact(save_booster(booster, tmp_path / "model"))}
    old, new = outputs
    assert f"it has {new} outputs, not {old}" in refusal("interface", check_interface, models[new], in_use(models[old]))
