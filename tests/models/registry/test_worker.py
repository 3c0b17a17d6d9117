"""Reading a model in the model process: the same result as here, and no harm to the service."""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from app.config.settings import Settings
from app.models.artifact import ModelContent, read_artifact, read_content
from app.models.process.array_file import read_struct, write_struct
from app.models.process.client import WorkerProcess
from app.models.refusal import ModelRefused
from kernels.forest.booster import BoosterForest
from tests.models.registry.working import BOOSTER, altered_python, ended, working
from tests.models.support import Catalogue, SavedModel, altered, save_booster, tiny_booster, tiny_rows


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, saved: SavedModel) -> Iterator[WorkerProcess]:
    """Without MLflow, whose import takes seconds, and which no build needs."""
    without = "def prepare(self):\n    sys.modules['mlflow'] = None\nworker.ModelWorker.prepare = prepare"
    with working(Settings()) as worker:
        with pytest.MonkeyPatch.context() as patch:
            python = altered_python(tmp_path_factory.mktemp("altered"), f"import sys\n{without}")
            patch.setattr(sys, "executable", python)
            worker.build(saved.directory, None)
        yield worker


def test_a_model_from_the_process_predicts_as_one_read_here(
    worker: WorkerProcess, saved: SavedModel, referring: Path, tmp_path: Path
) -> None:
    rows = tiny_rows()
    models = {
        "plain": saved.directory,
        "with all parts": referring,
        "categories": save_booster(
            tiny_booster(categorical_feature=[2], min_data_per_group=1), tmp_path / "categories"
        ),
        "classes": save_booster(
            tiny_booster(rows[:, 2] % 3, objective="multiclass", num_class=3), tmp_path / "classes", input_example=None
        ),
        "linear": save_booster(tiny_booster(linear_tree=True), tmp_path / "linear"),
    }
    for kind, directory in models.items():
        here, there = read_artifact(directory), worker.build(directory, read_artifact(directory).digest).artifact()
        for name in ("features", "plan", "intervals", "example", "digest", "files"):
            assert getattr(there, name) == getattr(here, name), (kind, name)
        assert isinstance(there.forest, BoosterForest) == (kind == "linear")
        for got, expected in zip(there.engine().evaluate(rows), here.engine().evaluate(rows), strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=kind)


def test_a_bad_model_is_refused_by_the_process_as_here(
    worker: WorkerProcess, saved: SavedModel, tmp_path: Path
) -> None:
    with pytest.raises(ModelRefused, match="the files' digest begins with") as caught:
        worker.build(saved.directory, "0" * 64)
    assert caught.value.check == "digest"
    with pytest.raises(ModelRefused, match=r"^the model has no file 'MLmodel'$") as caught:
        worker.build(tmp_path, None)
    assert caught.value.check == "artifact"


def test_a_name_that_is_not_unicode_is_refused(worker: WorkerProcess, saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model", flavors={"lightgbm": {"model_class": "sklearn"}})
    (directory / BOOSTER).rename(directory / "\udcff.txt")
    with pytest.raises(ModelRefused, match=r"^the model has a name that is not Unicode$"):
        worker.build(directory, None)


STRANGE = """
import numpy, time

def build(self, directory, digest):
    match directory.name:
        case "hang":
            time.sleep(600)
        case "hoard":
            numpy.ones(2**28)
        case "end":
            worker.os._exit(1)
    raise KeyError("a secret")

worker.ModelWorker.build = build
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param("hang", "reading it took longer than MODEL_BUILD_TIMEOUT = 0.5 s", marks=pytest.mark.slow),
        pytest.param("hoard", "to read it takes more than 1024 MiB of memory", marks=pytest.mark.slow),
        pytest.param("end", "the process that was to read it ended over it", marks=pytest.mark.slow),
    ],
)
def test_a_model_that_harms_the_process_is_refused(
    fault: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", altered_python(tmp_path, STRANGE))
    before = psutil.Process().children()
    settings = Settings(model_build_timeout=0.5 if fault == "hang" else 300)
    with working(settings, memory=2**30) as worker:
        with pytest.raises(ModelRefused) as caught:
            worker.build(Path(fault), None)
        assert (str(caught.value), caught.value.check) == (reason, "artifact")
        assert all(ended(child) for child in psutil.Process().children() if child not in before)
        if fault == "end":
            return
        with pytest.raises(ModelRefused, match=r"^it cannot be loaded: KeyError$"):
            worker.build(Path("defect"), None)


@pytest.mark.slow
def test_a_version_of_more_bytes_than_allowed_is_refused(
    houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    directory = altered(saved.directory, tmp_path / "model")
    catalogue.add(directory, "Production")
    size = sum(max(4096, path.stat().st_size) for path in directory.iterdir())
    for most, destination in ((size, tmp_path / "fits"), (size - 1, tmp_path / "not")):
        destination.mkdir()
        with working(msgspec.structs.replace(houses, model_max_bytes=most)) as worker:
            identity = worker.look().candidates[0].identity
            if most == size:
                assert (worker.fetch(identity, destination).directory / BOOSTER).is_file()
                continue
            with pytest.raises(ModelRefused, match=f"^its files have more than MODEL_MAX_BYTES = {most} bytes$"):
                worker.fetch(identity, destination)


class Pair(msgspec.Struct, frozen=True):
    first: ModelContent
    number: int


def test_a_truncated_array_file_is_not_read(referring: Path, tmp_path: Path) -> None:
    path = tmp_path / "content"
    write_struct(path, read_content(referring))
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    for length in (0, 7, 8, 100, len(content) - 65, len(content) - 64):
        path.write_bytes(content[:length])
        with pytest.raises((msgspec.DecodeError, msgspec.ValidationError)):
            read_struct(path, ModelContent)
    path.write_bytes(content)
    with pytest.raises(msgspec.ValidationError):
        read_struct(path, Pair)
