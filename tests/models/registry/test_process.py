"""The model process: the same answers as in this process, deadlines, and crashes."""

import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from app.config.settings import Settings
from app.models.identity import ModelIdentity
from app.models.process.client import WorkerProcess
from app.models.process.worker import ModelWorker
from app.models.refusal import ModelRefused
from app.models.registry.source import ModelUnknown, NothingToServe, RegistryUnreachable, VersionUnknown
from tests.models.registry.working import BOOSTER, ON_PATH, altered_python, ended, started, working
from tests.models.support import (
    MODEL,
    Catalogue,
    SavedModel,
    changed,
    tiny_booster,
    tiny_rows,
)
from tests.support import START_TIMEOUT_S, eventually

TIMEOUT_S = 0.5


ALTERED = """
import os

def noisy(function):
    def answer(*arguments):
        print("noise", flush=True)
        os.write(1, b"noise")
        return function(*arguments)
    return answer

def defect(*arguments):
    raise KeyError("a secret")

worker.ModelWorker.raw_scores = noisy(worker.ModelWorker.raw_scores)
worker.ModelWorker.card = defect
worker.ModelWorker.prepare = lambda self: None
"""
"""Prints what nobody asked for, has a defect, and imports MLflow when it is asked to look and not before."""


@pytest.fixture(scope="module")
def altered(tmp_path_factory: pytest.TempPathFactory) -> str:
    return altered_python(tmp_path_factory.mktemp("altered"), ALTERED)


@pytest.fixture(scope="module")
def all_tests_worker(registry_dir: Path) -> Iterator[WorkerProcess]:
    with working(Settings(data_dir=registry_dir)) as worker:
        yield worker


@pytest.fixture
def worker(all_tests_worker: WorkerProcess, altered: str, monkeypatch: pytest.MonkeyPatch) -> WorkerProcess:
    """Over the session's registry, `ALTERED`. Any test may leave it without its process."""
    monkeypatch.setattr(sys, "executable", altered)
    return all_tests_worker


@pytest.fixture(scope="module")
def here(registry_dir: Path) -> ModelWorker:
    """The same, in this process."""
    return ModelWorker(Settings(data_dir=registry_dir))


@pytest.fixture
def hung() -> Iterator[socket.socket]:
    """A registry that takes connections and answers none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(START_TIMEOUT_S)
        yield server


def url(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_the_process_sees_and_fetches_as_this_one_does(
    worker: WorkerProcess, here: ModelWorker, tmp_path: Path
) -> None:
    offer = worker.look()
    assert offer == here.look()
    identity = offer.candidates[0].identity
    assert worker.version(identity.version) == here.version(identity.version)
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    fetched, expected = worker.fetch(identity, tmp_path / "there"), here.fetch(identity, tmp_path / "here")
    assert fetched.metrics
    assert fetched.digest
    assert (fetched.metrics, fetched.digest) == (expected.metrics, expected.digest)
    assert fetched.directory.is_relative_to(tmp_path / "there")
    names = {path.relative_to(expected.directory) for path in expected.directory.rglob("*") if path.is_file()}
    assert Path("MLmodel") in names
    for name in names:
        assert (fetched.directory / name).read_bytes() == (expected.directory / name).read_bytes()


def test_a_full_disk_is_no_fault_of_the_registry(worker: WorkerProcess, disk: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        worker.fetch(worker.look().candidates[0].identity, disk)
    assert caught.value.errno == errno.ENOSPC
    assert str(disk) not in str(caught.value)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_scores_are_lightgbms_own(
    outputs: int, order: str, worker: WorkerProcess, here: ModelWorker, tmp_path: Path
) -> None:
    objective = "multiclass" if outputs == 3 else "regression"
    text = tmp_path / BOOSTER
    tiny_booster(tiny_rows()[:, 2] % 3, objective=objective, num_class=outputs).save_model(text)
    rows = np.vstack([tiny_rows(), np.full((1, 3), np.nan), np.full((1, 3), -np.inf)])
    scores = worker.raw_scores(text, np.asarray(rows, order="F" if order == "F" else "C"))
    assert scores.shape == ((52, 3) if outputs == 3 else (52,))
    np.testing.assert_array_equal(scores.view(np.uint64), here.raw_scores(text, rows).view(np.uint64))


def test_a_message_may_be_larger_than_any_pipe(worker: WorkerProcess, saved: SavedModel) -> None:
    rows = np.resize(saved.rows, (50_000, 3))
    scores = worker.raw_scores(saved.directory / BOOSTER, rows)
    np.testing.assert_array_equal(scores, saved.booster.predict(rows))


@pytest.mark.slow
def test_missing_models_and_versions_raise_as_they_do_here(houses: Settings, saved: SavedModel, tmp_path: Path) -> None:
    here = ModelWorker(houses)
    gone = ModelIdentity(name=MODEL, version="77")

    def agree(kind: type[Exception], ask: Callable[[WorkerProcess | ModelWorker], object]) -> None:
        with pytest.raises(kind) as there:
            ask(worker)
        with pytest.raises(kind) as expected:
            ask(here)
        assert (type(there.value), str(there.value)) == (type(expected.value), str(expected.value))
        assert type(there.value) is kind

    with working(houses) as worker:
        agree(ModelUnknown, lambda asked: asked.look())
        agree(ModelUnknown, lambda asked: asked.version("1"))
        catalogue = Catalogue(houses)
        catalogue.create()
        assert worker.look() == here.look()
        assert worker.look().candidates == ()
        agree(VersionUnknown, lambda asked: asked.version("77"))
        agree(NothingToServe, lambda asked: asked.fetch(gone, tmp_path))
        catalogue.add(saved.directory, "Production")
        (candidate,) = worker.look().candidates
        (tmp_path / "file").write_text("no directory")
        agree(RegistryUnreachable, lambda asked: asked.fetch(candidate.identity, tmp_path / "file"))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("objective", "LightGBM refuses the booster: Unknown objective type name: nonsense"),
        (None, "the booster's text is not a LightGBM model, or ends before its last tree"),
    ],
)
def test_a_text_that_lightgbm_refuses_is_refused_with_its_reason(
    key: str | None, reason: str, worker: WorkerProcess, saved: SavedModel, tmp_path: Path
) -> None:
    text = saved.booster.model_to_string()
    (tmp_path / BOOSTER).write_text(changed(text, key, "nonsense") if key else text[:200])
    with pytest.raises(ModelRefused) as caught:
        worker.raw_scores(tmp_path / BOOSTER, saved.rows)
    assert (str(caught.value), caught.value.check) == (reason, "kernels")


def test_rows_that_lightgbm_does_not_take_are_refused(worker: WorkerProcess, saved: SavedModel) -> None:
    with pytest.raises(ModelRefused, match="number of features") as caught:
        worker.raw_scores(saved.directory / BOOSTER, saved.rows[:, :2])
    assert caught.value.check == "kernels"


def test_a_text_over_which_lightgbm_ends_the_process_is_refused(
    worker: WorkerProcess, saved: SavedModel, tmp_path: Path
) -> None:
    text, far = saved.booster.model_to_string(), " ".join(["99999999"] * 5)
    (tmp_path / BOOSTER).write_text(changed(changed(text, "left_child", far), "right_child", far))
    with pytest.raises(ModelRefused, match="LightGBM ended the process") as caught:
        worker.raw_scores(tmp_path / BOOSTER, saved.rows)
    assert caught.value.check == "kernels"
    scores = worker.raw_scores(saved.directory / BOOSTER, saved.rows)
    np.testing.assert_array_equal(scores, saved.booster.predict(saved.rows))


def test_a_process_that_was_killed_is_started_anew(worker: WorkerProcess, altered: str, saved: SavedModel) -> None:
    def of_the_worker() -> psutil.Process:
        (process,) = (child for child in psutil.Process().children() if not ended(child) and altered in child.cmdline())
        return process

    text, expected = saved.directory / BOOSTER, saved.booster.predict(saved.rows)
    worker.raw_scores(text, saved.rows)
    killed = of_the_worker()
    killed.kill()
    eventually(lambda: ended(killed))
    np.testing.assert_array_equal(worker.raw_scores(text, saved.rows), expected)
    assert of_the_worker() != killed


@pytest.mark.slow
def test_a_hanging_registry_is_unreachable_in_time_and_ends_the_process(hung: socket.socket, saved: SavedModel) -> None:
    text, expected = saved.directory / BOOSTER, saved.booster.predict(saved.rows)
    before = psutil.Process().children()
    with working(Settings(mlflow_tracking_uri=url(hung), model_lookup_timeout=TIMEOUT_S)) as worker:
        worker.raw_scores(text, saved.rows)
        hanging = started(before)
        with pytest.raises(RegistryUnreachable, match=r"^no answer within 0\.5 s$"):
            worker.look()
        assert not hanging.is_running()
        np.testing.assert_array_equal(worker.raw_scores(text, saved.rows), expected)


@pytest.mark.slow
def test_closing_ends_a_call_that_hangs(hung: socket.socket) -> None:
    worker = WorkerProcess(Settings(mlflow_tracking_uri=url(hung), model_lookup_timeout=600))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(worker.look)
        connection, _ = hung.accept()
        with connection:
            worker.close()
            error = call.exception(timeout=60)
    assert isinstance(error, RegistryUnreachable)
    assert str(error) == "the service is stopping"
    with pytest.raises(RegistryUnreachable, match="the service is stopping"):
        worker.look()


@pytest.mark.slow
def test_closing_leaves_neither_process_nor_pipes(saved: SavedModel) -> None:
    before, descriptors = psutil.Process().children(), psutil.Process().num_fds()
    worker = WorkerProcess(Settings())
    worker.raw_scores(saved.directory / BOOSTER, saved.rows)
    process = started(before)
    worker.close()
    worker.close()
    assert not process.is_running()
    assert psutil.Process().num_fds() == descriptors


LOOKING = """
import sys
from app.models.process.client import WorkerProcess
from app.config.settings import Settings
WorkerProcess(Settings(mlflow_tracking_uri=sys.argv[1], model_lookup_timeout=600)).look()
"""


@pytest.mark.slow
def test_it_ends_with_its_parent_though_it_hangs(hung: socket.socket) -> None:
    # MLflow itself must not give up before.
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "600"}
    parent = subprocess.Popen([sys.executable, "-c", LOOKING, url(hung)], env=os.environ | ON_PATH | patience)
    try:
        connection, _ = hung.accept()
        with connection:
            (child,) = psutil.Process(parent.pid).children()
            parent.kill()
            eventually(lambda: ended(child), timeout=60)
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.slow
def test_it_ends_when_nothing_is_asked_for_a_while(tmp_path: Path) -> None:
    python = altered_python(tmp_path, "worker.LINGER_S = 0.1")
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([python], stdin=theirs.fileno(), env=os.environ | ON_PATH)
    with Connection(ours.detach()) as connection, process:
        connection.send_bytes(msgspec.msgpack.encode([Settings()], enc_hook=str))
        assert connection.recv_bytes() == b""
        assert process.wait(60) == 0


def test_a_librarys_print_is_not_taken_for_an_answer(worker: WorkerProcess, saved: SavedModel) -> None:
    scores = worker.raw_scores(saved.directory / BOOSTER, saved.rows)
    np.testing.assert_array_equal(scores, saved.booster.predict(saved.rows))


def test_a_defect_is_reported_by_its_kind_alone(worker: WorkerProcess, tmp_path: Path) -> None:
    with pytest.raises(RegistryUnreachable, match=r"^KeyError$"):
        worker.card(ModelIdentity(name=MODEL, version="1"), tmp_path)


def test_a_process_that_does_not_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", altered_python(tmp_path, "raise SystemExit(3)"))
    with working(Settings()) as worker, pytest.raises(RegistryUnreachable, match="did not start"):
        worker.look()


def test_a_missing_interpreter_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with working(Settings()) as worker, pytest.raises(RegistryUnreachable, match="did not start"):
        worker.look()


@pytest.mark.slow
def test_it_works_beyond_a_thousand_descriptors(saved: SavedModel) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        opened = [stack.enter_context(open(os.devnull)).fileno() for _ in range(1100)]
        assert max(opened) > 1023
        worker = stack.enter_context(working(Settings()))
        scores = worker.raw_scores(saved.directory / BOOSTER, saved.rows)
    np.testing.assert_array_equal(scores, saved.booster.predict(saved.rows))
