"""A model answers while the kernels of another one are compiled."""

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.config.settings import Settings
from tests.models.support import save_booster, save_referring, tiny_booster
from tests.routes.support import register
from tests.several.conftest import ROW
from tests.support import HTTP, Server

COMPILED = "kernels compiled"


@pytest.mark.slow
def test_a_model_answers_while_kernels_of_another_are_compiled(
    serve: Callable[..., Server], tmp_path: Path, registry_dir: Path
) -> None:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    shutil.copy(registry_dir / "mlflow.db", directory)
    # All kernels may be there but those that only the other model has, whose stored rows are searched.
    compiled = Path(os.environ["NUMBA_CACHE_DIR"])
    kernels = tmp_path / "kernels" / compiled.name
    shutil.copytree(compiled, kernels, ignore=shutil.ignore_patterns("references.*", "nearest.*", "steps.*"))
    register(Settings(data_dir=directory, model_name="trees"), save_booster(tiny_booster(), tmp_path / "trees"))
    server = serve(
        DATA_DIR=str(directory), MODEL_NAMES="trees,near", PREDICTION_LOG="off", ADMIN_API_KEY="admin",
        REQUEST_TIMEOUT="300", NUMBA_CACHE_DIR=str(kernels),
    )  # fmt: skip

    def answered(name: str) -> bool:
        return HTTP.post(f"{server.url}/predict/{name}", json=ROW).status_code == 200

    server.wait_ready()
    assert answered("trees")
    before = server.log().count(COMPILED)
    register(Settings(data_dir=directory, model_name="near"), save_referring(tmp_path / "near"))
    with ThreadPoolExecutor(1) as pool:
        url, headers = f"{server.url}/health/model/near/reload", {"X-API-Key": "admin"}
        order = pool.submit(HTTP.post, url, headers=headers, timeout=300)
        times: list[float] = []
        while not order.done():
            began = time.monotonic()
            assert answered("trees")
            times.append(time.monotonic() - began)
    assert order.result().json()["outcome"] == "swapped"
    assert answered("near")
    assert server.log().count(COMPILED) > before
    print(f"{len(times)} answers, the slowest after {1000 * max(times):.0f} ms")
    assert len(times) > 10
