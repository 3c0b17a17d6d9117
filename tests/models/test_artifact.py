"""Reading model directories: served models, and the reason of each refusal."""

import os
import pickle
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pandas as pd
import pytest
from mlflow.types import DataType

from app.feature import Feature
from app.models.artifact import read_artifact
from app.models.refusal import ModelRefused
from app.models.registry.embedded import BUNDLED
from kernels.plan.plan import Input, Plan
from tests.models.support import (
    NAMES,
    PARAMETERS,
    SavedModel,
    Trap,
    altered,
    mlflows_own_warnings_silenced,
    numbers,
    refusal,
    save_booster,
    serve,
    tiny_booster,
    tiny_rows,
    with_booster,
)


def test_the_bundled_model_is_read_with_plan_example_and_digest() -> None:
    artifact = read_artifact(BUNDLED / "model")
    assert artifact.plan is not None
    assert tuple(feature.name for feature in artifact.features) == artifact.plan.input_names
    assert all(feature.physical_range and feature.training_range for feature in artifact.features)
    assert artifact.example is not None
    assert list(artifact.example) == list(artifact.plan.input_names)
    assert artifact.digest == read_artifact(BUNDLED / "model").digest
    assert len(artifact.digest) == 64


def test_a_booster_that_plain_mlflow_saved_is_served_as_lightgbm_predicts(saved: SavedModel) -> None:
    model = serve(saved.directory)
    assert [feature.name for feature in model.artifact.features] == list(NAMES)
    assert model.artifact.plan is None
    assert model.artifact.example == dict(zip(NAMES, saved.rows[0].tolist(), strict=True))
    np.testing.assert_array_equal(model.engine.predict(saved.rows), saved.booster.predict(saved.rows))


def test_the_digest_is_another_for_another_booster(saved: SavedModel, tmp_path: Path) -> None:
    other = with_booster(tiny_booster(rounds=2).model_to_string(), saved.directory, tmp_path / "other")
    assert read_artifact(other).digest != read_artifact(saved.directory).digest


TRAPPED = f"the model is a {os.mkdir.__module__}.mkdir, a Python object in which no fitted LightGBM booster was found"


def fitted_regressor() -> lgb.LGBMRegressor:
    rows = tiny_rows()
    with mlflows_own_warnings_silenced():
        return lgb.LGBMRegressor(n_estimators=3, min_child_samples=3, n_jobs=1, verbosity=-1).fit(rows, rows[:, 0])


def save_regressor(directory: Path, scratch: Path, **options: Any) -> Path:
    """A scikit-learn model as MLflow saves it, with a trap where its Python object was: `scratch` if it is sprung."""
    save_booster(fitted_regressor(), directory, **options)
    (stored,) = directory.glob("model.*")
    stored.write_bytes(pickle.dumps(Trap(scratch)))
    return directory


@pytest.mark.parametrize("options", [{}, {"serialization_format": "pickle"}, {"serialization_format": "cloudpickle"}])
def test_a_pickled_model_without_booster_text_is_refused_unopened(options: dict[str, str], tmp_path: Path) -> None:
    directory = save_regressor(tmp_path / "model", tmp_path / "unpickled", **options)
    assert refusal(directory) == TRAPPED
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("options", [{}, {"serialization_format": "pickle"}])
@pytest.mark.parametrize("name", ["booster.txt", "native.lgb", "a.model", "extra_files/booster.txt"])
def test_a_pickled_model_is_served_from_its_booster_text_unopened(
    options: dict[str, str], name: str, tmp_path: Path
) -> None:
    regressor = fitted_regressor()
    directory = save_regressor(tmp_path / "model", tmp_path / "unpickled", **options)
    (directory / name).parent.mkdir(exist_ok=True)
    regressor.booster_.save_model(directory / name)
    (directory / "notes.txt").write_text("trained on a Tuesday\n")
    model = serve(directory)
    assert model.artifact.files["booster"] == name
    with mlflows_own_warnings_silenced():
        np.testing.assert_array_equal(model.engine.predict(tiny_rows()), regressor.predict(tiny_rows()))
    assert not (tmp_path / "unpickled").exists()


def test_a_booster_text_beside_a_pickled_model_must_be_the_only_one(saved: SavedModel, tmp_path: Path) -> None:
    directory = save_regressor(tmp_path / "model", tmp_path / "unpickled")
    (directory / "notes.txt").write_text("treeless\n")
    (directory / "empty.lgb").touch()
    (directory / "bytes.model").write_bytes(b"\xff\xfe\0")
    assert refusal(directory) == TRAPPED
    for name in ("first.txt", "second.lgb"):
        (directory / name).write_text(saved.booster.model_to_string())
    assert refusal(directory) == TRAPPED


def test_a_boosters_text_that_links_elsewhere_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(saved.booster.model_to_string())
    directory = save_regressor(tmp_path / "model", tmp_path / "unpickled")
    (directory / "booster.txt").symlink_to(tmp_path / "secret")
    assert refusal(directory) == "the model's file 'booster.txt' is outside its directory"


@pytest.mark.parametrize("content", ["gr\xf6\xdfe".encode("latin-1"), "tree".encode("utf-16"), bytes([200] * 99)])
def test_a_file_in_no_known_form_is_refused_in_plain_words(content: bytes, saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model")
    (directory / "model.lgb").write_bytes(content)
    assert refusal(directory) == "the model's file is neither a text of LightGBM nor a Python object that is read"


def test_a_directory_without_mlmodel_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "the model has no file 'MLmodel'"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"flavors: [", "the MLmodel file is not valid YAML"),
        (b"\xff\xfe\x00", "the MLmodel file is not valid YAML"),
        (b"flavors: \x00", "the MLmodel file is not valid YAML"),
        (b"created: 2026-99-99", "the MLmodel file is not valid YAML"),
        (b"[" * 20_000, "the MLmodel file nests deeper than 32 levels"),
        (b"!!python/object/apply:os.getcwd []", "the MLmodel file is not valid YAML"),
        (b"", "the MLmodel file names no flavors"),
        (b"a: 1", "the MLmodel file names no flavors"),
        (b"flavors: lightgbm", "the MLmodel file names no flavors"),
        (b"flavors: {}", "the model has none of the flavors lightgbm, sklearn and madrone"),
        (b"flavors: {sklearn: {}}", "the sklearn flavor does not name the model's file (pickled_model)"),
        (b"flavors: {madrone: {}}", "the madrone flavor must name its booster, and each of its files by a text"),
        (
            b"flavors: {madrone: {booster: a, plan: 1}}",
            "the madrone flavor must name its booster, and each of its files by a text",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_an_unusable_mlmodel_file_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_bytes(content)
    assert refusal(tmp_path) == reason


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/../../secret", "linked", "links/secret"])
def test_a_booster_outside_its_directory_is_refused(name: str, saved: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(saved.booster.model_to_string())
    directory = altered(saved.directory, tmp_path / "model", flavors={"lightgbm": {"data": name}})
    (directory / "linked").symlink_to(tmp_path / "secret")
    (directory / "links").symlink_to(tmp_path)
    assert refusal(directory) == f"the model's file {name!r} is outside its directory"


def test_a_linked_booster_is_refused_though_it_links_inside(saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model", flavors={"lightgbm": {"data": "linked"}})
    (directory / "linked").symlink_to(directory / "model.lgb")
    assert "outside its directory" in refusal(directory)


def test_a_linked_mlmodel_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").symlink_to(saved.directory / "MLmodel")
    assert refusal(tmp_path) == "the model's file 'MLmodel' is outside its directory"


@pytest.mark.parametrize("name", ["gone.lgb", "", ".", "x" * 5000, "model\0.lgb", "loop/model.lgb"])
def test_a_booster_name_that_is_no_file_is_refused(name: str, saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model", flavors={"lightgbm": {"data": name}})
    (directory / "loop").symlink_to("loop")
    assert "the model" in refusal(directory)


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ({"inputs": "[" * 100_000}, "not valid JSON"),
        ({"inputs": ["a"]}, "not valid JSON"),
        ("text", "signature"),
        (["a"], "signature"),
    ],
    ids=["nested", "list", "text", "no mapping"],
)
def test_a_signature_of_another_shape_is_refused(
    signature: Any, reason: str, saved: SavedModel, tmp_path: Path
) -> None:
    assert reason in refusal(altered(saved.directory, tmp_path / "model", signature=signature))


def test_a_text_column_is_refused_by_name(tmp_path: Path) -> None:
    directory = save_booster(
        tiny_booster(), tmp_path / "model", signature=numbers(*NAMES, kind=DataType.string), input_example=None
    )
    assert refusal(directory) == (
        "the signature's column 'income' has type 'string', and the booster has no categories for it: "
        "LightGBM takes text from pandas category columns only"
    )


def test_a_signature_that_does_not_fit_the_pandas_categories_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    rows = pd.DataFrame(tiny_rows(), columns=list(NAMES))
    rows["age"] = pd.Categorical(rows["age"].map(str))
    booster = lgb.train(PARAMETERS, lgb.Dataset(rows, rows["income"]), num_boost_round=3)
    directory = with_booster(booster.model_to_string(), saved.directory, tmp_path / "model")
    assert refusal(directory) == (
        "the booster has pandas categories of 1 columns, and it cannot be told of which: "
        "the signature's columns do not fit them"
    )


def test_integer_categories_are_served_as_lightgbm_predicts(tmp_path: Path) -> None:
    booster = tiny_booster(categorical_feature=[2], min_data_per_group=2, cat_smooth=1)
    assert "num_cat=1" in booster.model_to_string()
    rows = np.vstack([tiny_rows(), [[0, 0, 99], [0, 0, -1], [0, 0, np.nan]]])
    model = serve(save_booster(booster, tmp_path / "model"))
    np.testing.assert_array_equal(model.engine.predict(rows), booster.predict(rows))


def test_a_binary_model_gives_probabilities(tmp_path: Path) -> None:
    rows = tiny_rows()
    booster = tiny_booster((rows[:, 0] > 0).astype(float), objective="binary")
    model = serve(save_booster(booster, tmp_path / "model"))
    predicted = model.engine.predict(rows)
    assert ((predicted > 0) & (predicted < 1)).all()
    np.testing.assert_array_equal(predicted, booster.predict(rows))


def test_a_model_of_three_classes_gives_three_probabilities_a_row(tmp_path: Path) -> None:
    rows = tiny_rows()
    booster = tiny_booster(rows[:, 2] % 3, objective="multiclass", num_class=3)
    model = serve(save_booster(booster, tmp_path / "model"))
    predicted = model.engine.predict(rows)
    assert predicted.shape == (len(rows), 3)
    np.testing.assert_array_equal(predicted, booster.predict(rows))


def planned(model: Path, destination: Path, plan: bytes) -> Path:
    directory = altered(model, destination, flavors={"madrone": {"booster": "model.lgb", "plan": "plan.json"}})
    (directory / "plan.json").write_bytes(plan)
    return directory


def test_a_plan_whose_outputs_are_not_the_boosters_features_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    inputs = tuple(Input(name=name) for name in NAMES)
    few = planned(saved.directory, tmp_path / "few", Plan(inputs=inputs, outputs=NAMES[:2]).to_json())
    with pytest.raises(ModelRefused, match="the plan makes 2 features, the booster takes 3"):
        serve(few)
    swapped = planned(saved.directory, tmp_path / "swapped", Plan(inputs=inputs, outputs=NAMES[::-1]).to_json())
    with pytest.raises(ModelRefused, match="the plan's feature 0 is 'age', the booster's is 'income'"):
        serve(swapped)


def test_a_plan_of_other_inputs_than_the_signatures_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    plan = Plan(inputs=(Input(name="wage"),), outputs=("wage",))
    reason = refusal(planned(saved.directory, tmp_path / "model", plan.to_json()))
    assert reason == "the signature's columns income, rooms, age are not the plan's inputs wage"


@pytest.mark.parametrize("plan", [b"", b"{", b"\xff", b"{}", b'{"version": 2}', b"[" * 100_000])
def test_a_plan_that_cannot_be_read_is_refused(plan: bytes, saved: SavedModel, tmp_path: Path) -> None:
    assert refusal(planned(saved.directory, tmp_path / "model", plan)).startswith("plan: ")


def test_a_model_without_an_example_is_warmed_up_with_zeros(saved: SavedModel, tmp_path: Path) -> None:
    model = serve(altered(saved.directory, tmp_path / "model", saved_input_example_info=None))
    assert model.artifact.example is None
    np.testing.assert_array_equal(model.artifact.sample(), np.zeros((1, 3)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2, 3]",
        b'{"columns": ["income"], "data": [[1]]}',
        b'{"columns": ["income", "rooms", "age"], "data": []}',
        b'{"columns": ["income", "rooms", "age"], "data": [[1, 2]]}',
        b'{"columns": ["income", "rooms", "age"], "data": [[1, 2, "old"]]}',
        b'{"columns": ["income", "rooms", "age"], "data": [[1, 2, 1' + b"0" * 400 + b"]]}",
        b"[" * 100_000,
    ],
    ids=["empty", "row", "few columns", "no rows", "short row", "text", "above any float", "nested"],
)
def test_an_example_that_cannot_be_used_does_not_refuse_its_model(
    content: bytes, saved: SavedModel, tmp_path: Path
) -> None:
    directory = altered(saved.directory, tmp_path / "model")
    (directory / "input_example.json").write_bytes(content)
    model = serve(directory)
    assert model.artifact.example is None
    np.testing.assert_array_equal(model.engine.predict(saved.rows), saved.booster.predict(saved.rows))


def test_a_missing_value_in_the_example_is_a_missing_value(saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model")
    (directory / "input_example.json").write_bytes(
        msgspec.json.encode({"columns": ["age", "rooms", "income"], "data": [[3, None, 1.5]]})
    )
    np.testing.assert_array_equal(serve(directory).artifact.sample(), [[1.5, np.nan, 3.0]])


def test_a_category_of_the_input_example_becomes_its_code(saved: SavedModel) -> None:
    artifact = read_artifact(saved.directory)
    kinds = (
        Feature(name="income", kind="category", categories=("low", "high")),
        Feature(name="rooms", kind="category", categories=(2, True)),
        Feature(name="age"),
    )
    for values, row in (
        (("high", 1, 0.5), [1, 1, 0.5]),
        (("none", None, None), [np.nan, np.nan, np.nan]),
        (("low", 2.0, 3), [0, 0, 3]),
    ):
        example = dict(zip(NAMES, values, strict=True))
        sample = msgspec.structs.replace(artifact, features=kinds, example=example).sample()
        np.testing.assert_array_equal(sample, [row])
