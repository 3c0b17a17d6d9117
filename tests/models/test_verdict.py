"""The verdict on a model: what it takes and gives, or the check that it fails, as the service would say."""

from pathlib import Path

import msgspec
import pytest

from app.models.registry.source import PlaceUnreachable
from app.models.registry.worker import ModelWorker
from app.models.verdict import Verdict, describe_verdict, judge_model
from app.settings import Settings
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
