"""The verdict on a model: what it takes and gives, or the check that it fails, as the service would say."""

from pathlib import Path

import msgspec
import pytest
from mlflow.types import ColSpec, DataType

from app.config.settings import Settings
from app.feature import Feature
from app.models.flavor import ModelParts, save_model
from app.models.process.worker import ModelWorker
from app.models.registry.source import PlaceUnreachable
from app.models.verdict import Outputs, Verdict, describe_verdict, judge_model
from tests.models.support import NAMES, SavedModel, altered, numbers, save_booster, tiny_booster, tiny_rows


@pytest.fixture
def judge(tmp_path: Path, registry_dir: Path):
    """Judges the model at a path, in this process."""

    def judge(path: Path, **changes: object) -> Verdict:
        settings = Settings(data_dir=tmp_path / "data", model_path=str(path), model_name="houses")
        settings = msgspec.structs.replace(settings, **changes)
        return judge_model(settings, ModelWorker(settings))

    return judge


def test_what_a_model_takes_and_gives_is_told(judge, saved: SavedModel, referring: Path, tmp_path: Path) -> None:
    verdict = judge(saved.directory)
    assert (verdict.servable, verdict.reason, verdict.failed) == (True, None, None)
    assert verdict.checks == ("artifact", "agreement", "kernels", "prediction")
    assert tuple(feature.name for feature in verdict.features) == NAMES
    assert verdict.outputs is not None
    assert (verdict.outputs.count, verdict.outputs.objective, verdict.trees) == (1, "regression", 3)
    lines = describe_verdict(verdict, "./model").splitlines()
    assert lines[0] == f"./model can be served as houses, version {verdict.version}."
    assert "Its 3 trees are evaluated by the kernels." in lines
    with_intervals = judge(referring).outputs
    assert with_intervals is not None
    assert with_intervals.interval_levels == (0.5, 0.9, 0.95)
    classes = tiny_booster(tiny_rows()[:, 2] % 3, objective="multiclass", num_class=3)
    three = judge(save_booster(classes, tmp_path / "classes")).outputs
    assert three is not None
    assert three.count == 3


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (DataType.long, "age: integer"),  # its limits are those of float64
        (DataType.integer, "age: integer, from -2147483648 to 2147483647"),
        (DataType.double, "age: number, may be missing"),
    ],
)
def test_the_limits_of_a_column_are_told_exactly(judge, tmp_path: Path, kind: DataType, line: str) -> None:
    signature = numbers(*NAMES[:2])
    signature.inputs.inputs.append(ColSpec(kind, NAMES[2]))
    verdict = judge(save_booster(tiny_booster(), tmp_path / "model", signature=signature, input_example=None))
    assert f"  {line}" in describe_verdict(verdict, "m").splitlines()


def test_the_range_of_a_plan_is_told_with_all_its_digits(judge, tmp_path: Path) -> None:
    feature = Feature(name="age", physical_range=(-0.1, 12345678901.25))
    verdict = Verdict(servable=True, name="m", features=(feature,))
    assert "  age: number, from -0.1 to 12345678901.25" in describe_verdict(verdict, "m").splitlines()


def test_categories_and_labels_are_told_as_callers_send_and_get_them() -> None:
    feature = Feature(name="kind", kind="category", categories=("1", "", 1.5, True))
    outputs = Outputs(count=1, meaning="probability", objective="binary", labels=(False, True), interval_levels=())
    verdict = Verdict(servable=True, name="m", features=(feature,), outputs=outputs)
    lines = describe_verdict(verdict, "m").splitlines()
    assert '  kind: category, of "1", "", 1.5, true, may be missing' in lines
    assert "Labels of its classes: false, true." in lines


def test_a_classifier_with_an_objective_of_its_own_gives_no_labels(judge, tmp_path: Path) -> None:
    booster = tiny_booster(
        (tiny_rows()[:, 0] > 0) * 1.0, objective=lambda score, data: (score - data.label, score * 0 + 1)
    )
    parts = ModelParts(booster=booster.model_to_string(), labels=("no", "yes"))
    save_model(tmp_path / "model", parts, numbers(*NAMES), None)
    verdict = judge(tmp_path / "model")
    assert verdict.outputs is not None
    assert (verdict.outputs.meaning, verdict.outputs.labels) == ("raw_score", None)
    assert "It gives one number for each row (raw score), objective unknown." in describe_verdict(verdict, "m")


def test_the_check_that_a_model_fails_is_told(judge, saved: SavedModel, tmp_path: Path) -> None:
    other = save_booster(tiny_booster(), tmp_path / "other", signature=numbers("a", "b"), input_example=None)
    verdict = judge(other)
    assert (verdict.servable, verdict.failed, verdict.checks) == (False, "agreement", ("artifact",))
    assert str(verdict.reason) in describe_verdict(verdict, "m")
    assert "It fails the check `agreement`." in describe_verdict(verdict, "m")
    damaged = altered(saved.directory, tmp_path / "damaged")
    (damaged / "model.lgb").write_text("tree\nnothing")
    verdict = judge(damaged)
    assert (verdict.servable, verdict.failed, verdict.checks) == (False, "artifact", ())
    verdict = judge(tmp_path / "nothing")
    assert (verdict.servable, verdict.failed, verdict.version) == (False, None, None)
    assert describe_verdict(verdict, "m") == "m cannot be served: there is no file or directory at that path."


def test_a_place_that_does_not_answer_is_told(judge, saved: SavedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(self: ModelWorker) -> None:
        raise PlaceUnreachable("connection refused", "at 10.0.0.1")

    monkeypatch.setattr(ModelWorker, "look", look)
    verdict = judge(saved.directory)
    assert (verdict.servable, verdict.reason, verdict.detail) == (False, "connection refused", "at 10.0.0.1")
    assert describe_verdict(verdict, "m") == "m cannot be served: connection refused.\nat 10.0.0.1"
