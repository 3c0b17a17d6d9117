"""Twenty models in one real process: all answer, one process asks the registry, and their memory is told."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.config.settings import Settings
from tests.models.support import save_booster, tiny_booster, tiny_rows
from tests.routes.support import register
from tests.several.conftest import ROW
from tests.support import HTTP, Server

MODELS = 20

MOST_MIB_EACH = 25
"""Memory of a further model, at most: threads' stacks, an engine, a codec and a decoder, of a model of three trees."""


def worker_of(server: Server) -> psutil.Process:
    """The process that answers."""
    (worker,) = psutil.Process(server.popen.pid).children()
    return worker


def started(serve: Callable[..., Server], directory: Path, names: list[str]) -> tuple[Server, float, float]:
    """A server with these models, its seconds until it was ready, and its MiB."""
    before = time.monotonic()
    server = serve(DATA_DIR=str(directory), MODEL_NAMES=",".join(names), PREDICTION_LOG="off")
    server.wait_ready()
    seconds = time.monotonic() - before
    for name in names:
        assert HTTP.post(f"{server.url}/predict/{name}", json=ROW).status_code == 200, name
    return server, seconds, worker_of(server).memory_info().rss / 2**20


@pytest.mark.slow
def test_twenty_models_answer_from_one_process(
    serve: Callable[..., Server], tmp_path: Path, registry_dir: Path
) -> None:
    directory, names = tmp_path / "data", [f"model-{number}" for number in range(MODELS)]
    directory.mkdir(mode=0o700)
    (registry_dir / "kernels").mkdir(exist_ok=True)
    (directory / "kernels").symlink_to(registry_dir / "kernels")  # compiled once for all servers
    expected: dict[str, float] = {}
    for number, name in enumerate(names):
        booster = tiny_booster(tiny_rows()[:, 0] + number)
        saved = save_booster(booster, tmp_path / name)
        register(Settings(data_dir=directory, model_name=name), saved)
        expected[name] = float(booster.predict([list(ROW.values())])[0])  # type: ignore[arg-type, index]
    alone, _, one = started(serve, directory, names[:1])
    alone.terminate()
    server, seconds, all_of_them = started(serve, directory, names)
    for name in names:
        answer = HTTP.post(f"{server.url}/predict/{name}", json=ROW).json()
        assert answer["prediction"] == expected[name]
    asking = [child for child in worker_of(server).children() if "app.models.process.worker" in child.cmdline()]
    assert len(asking) <= 1
    each = (all_of_them - one) / (MODELS - 1)
    print(f"one model {one:.0f} MiB; each further one {each:.1f} MiB; ready after {seconds:.1f} s")
    assert each < MOST_MIB_EACH
    again = HTTP.post(f"{server.url}/v2/repository/index").json()
    assert [entry["state"] for entry in again] == ["READY"] * MODELS
