"""Model directories whose model is a Python object, as MLflow stores it, from the directory to the predictions."""

import gzip
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm as lgb
import mlflow.lightgbm
import mlflow.sklearn
import msgspec
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import infer_signature

from app.codecs.classes import class_indices, probabilities
from app.config.settings import Settings
from app.models.artifact import read_artifact
from app.models.checks import check_labels
from app.models.process.worker import ModelWorker
from tests.models.objects.support import ROWS, cases, fitted, labelled
from tests.models.support import (
    NAMES,
    SavedModel,
    mlflows_own_warnings_silenced,
    refusal,
    save_text,
    serve,
    with_booster,
)

SAVE: dict[str, Callable[..., None]] = {"lightgbm": mlflow.lightgbm.save_model, "sklearn": mlflow.sklearn.save_model}
TRUSTED = [
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    *[f"lightgbm.sklearn.LGBM{kind}" for kind in ("Regressor", "Classifier", "Ranker")],
]


def save(model: Any, directory: Path, flavor: str = "lightgbm", form: str = "skops", **options: Any) -> Path:
    """Save as a user of MLflow does."""
    frame = pd.DataFrame(ROWS, columns=list(NAMES))
    trusted = {"skops_trusted_types": TRUSTED} if form == "skops" else {}
    with mlflows_own_warnings_silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SAVE[flavor](
            model,
            str(directory),
            signature=infer_signature(frame),
            input_example=frame[:1],
            pip_requirements=[],
            serialization_format=form,
            **trusted | options,
        )
    return directory


@pytest.mark.parametrize("form", ["pickle", "cloudpickle", "skops"])
@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn"])
@pytest.mark.parametrize("labels", [None, ["no", "yes"], [2, 4, 8]], ids=["regressor", "binary", "multiclass"])
def test_a_model_of_the_scikit_learn_api_is_served(labels: Any, flavor: str, form: str, tmp_path: Path) -> None:
    model = fitted() if labels is None else labelled(labels)
    directory = save(model, tmp_path / "model", flavor, form)
    served = serve(directory)
    assert served.artifact.labels == (None if labels is None else tuple(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.predict(cases()) if labels is None else model.predict_proba(cases())
    got = served.engine.predict(cases())
    np.testing.assert_array_equal(got, expected[:, 1] if labels is not None and len(labels) == 2 else expected)
    name = "model.skops" if form == "skops" else "model.pkl"
    assert served.artifact.files == {"mlmodel": "MLmodel", "booster": name, "example": "input_example.json"}


def test_lightgbms_own_scores_are_those_of_the_object(tmp_path: Path) -> None:
    model = labelled([2, 4, 8])
    for form, name in (("pickle", "model.pkl"), ("skops", "model.skops")):
        directory = save(model, tmp_path / form, form=form)
        scores = ModelWorker(Settings()).raw_scores(directory / name, cases())
        np.testing.assert_array_equal(scores, model.booster_.predict(cases(), raw_score=True))


def test_a_booster_that_joblib_stored_is_served(saved: SavedModel, tmp_path: Path) -> None:
    directory = with_booster("", saved.directory, tmp_path / "model")
    joblib.dump(saved.booster, directory / "model.lgb", compress=3)
    np.testing.assert_array_equal(serve(directory).engine.predict(cases()), saved.booster.predict(cases()))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_names_in_an_encoding_that_lightgbm_reads_are_served(encoding: str, tmp_path: Path) -> None:
    booster = lgb.train(
        {"verbose": -1, "num_threads": 1}, lgb.Dataset(ROWS, ROWS[:, 0], feature_name=["größe", "b", "c"]), 2
    )
    directory = save_text("", tmp_path / "model")
    (directory / "model.lgb").write_bytes(booster.model_to_string().encode(encoding))
    served = serve(directory)
    assert served.artifact.features[0].name == "größe"
    np.testing.assert_array_equal(served.engine.predict(cases()), booster.predict(cases()))


def test_a_byte_that_is_damaged_outside_of_the_names_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    directory = save_text("", tmp_path / "model")
    content = saved.booster.model_to_string().encode()
    for at in (content.index(b"objective="), content.index(b"leaf_value="), content.index(b"[learning_rate: ") + 1):
        (directory / "model.lgb").write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        assert refusal(directory).startswith("the booster's text is damaged: it is not UTF-8, and not in the names of")


def test_a_file_that_is_no_model_is_refused_by_what_it_is(saved: SavedModel, tmp_path: Path) -> None:
    directory = save_text("", tmp_path / "model")
    for content, reason in {
        b"\xff\xfet\0r\0e\0e\0": "the model's file is neither a text of LightGBM nor a Python object that is read",
        gzip.compress(saved.booster.model_to_string().encode()): (
            "the model's file is a compressed text, and LightGBM itself reads none: unpack it"
        ),
    }.items():
        (directory / "model.lgb").write_bytes(content)
        assert refusal(directory) == reason


def test_a_text_among_the_extra_files_is_served_before_the_object(tmp_path: Path) -> None:
    model = labelled(["no", "yes"])
    model.booster_.save_model(tmp_path / "booster.txt")
    directory = save(model, tmp_path / "model", extra_files=[str(tmp_path / "booster.txt")])
    artifact = read_artifact(directory)
    assert artifact.files["booster"] == "extra_files/booster.txt"
    assert artifact.labels is None


def test_labels_that_are_not_one_for_each_class_are_refused(tmp_path: Path) -> None:
    model = labelled(["no", "yes"])
    model._classes = np.array(["a", "b", "c"])
    directory = save(model, tmp_path / "model", form="pickle")
    assert refusal(directory) == "the model has labels of 3 classes, and its booster has 2"
    model._classes = np.array(["a", "a"])
    (directory / "model.pkl").write_bytes(pickle.dumps(model))
    assert refusal(directory) == "the model has two classes of the same label"


@pytest.mark.parametrize(
    "model",
    [labelled(["only"]), labelled(["no", "yes"], objective="multiclass", num_class=3)],
    ids=["one class", "more outputs than labels"],
)
def test_a_classifier_that_was_fitted_on_fewer_classes_than_it_predicts_is_served(model: Any, tmp_path: Path) -> None:
    served = serve(save(model, tmp_path / "model", form="pickle"))
    check_labels(served.artifact)
    assert (labels := served.labels) == tuple(model.classes_)
    assert labels is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictions = served.engine.predict(cases())
        np.testing.assert_array_equal(probabilities(predictions), model.predict_proba(cases()))
        expected = model.predict(cases()).tolist()
    assert [labels[index] for index in class_indices(predictions, labels)] == expected


def with_labels(model: lgb.Booster, labels: Any, directory: Path) -> Path:
    """A model of the madrone flavor without a plan."""
    directory.mkdir()
    model.save_model(directory / "model.lgb")
    (directory / "labels.json").write_bytes(labels if isinstance(labels, bytes) else msgspec.json.encode(labels))
    flavor = {"booster": "model.lgb", "labels": "labels.json"}
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": {"madrone": flavor}}))
    return directory


def test_labels_of_the_madrone_flavor_are_a_json_list(tmp_path: Path) -> None:
    booster = labelled([0, 1, 2]).booster_
    artifact = read_artifact(with_labels(booster, ["low", 2, True], tmp_path / "model"))
    assert artifact.labels == ("low", 2, True)
    assert artifact.plan is None
    assert artifact.files["labels"] == "labels.json"
    assert artifact.digest != read_artifact(with_labels(booster, ["low", 2, "c"], tmp_path / "other")).digest


@pytest.mark.parametrize("content", [b"", b"{}", b"[1", b"[null, 1, 2]", b"[[1], 2, 3]", b"\xff", b'["a", "b", NaN]'])
def test_labels_that_are_no_list_of_values_are_refused(content: bytes, tmp_path: Path) -> None:
    directory = with_labels(labelled([0, 1, 2]).booster_, content, tmp_path / "model")
    assert refusal(directory) == "the model's labels are not a JSON list of texts, numbers and booleans"
