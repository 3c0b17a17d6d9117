"""`madrone serve --reload` with two workers: changed code is served, and code with an error is waited for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import BY_PATH, HTTP, ROOT, Server, eventually

NAME = '        name="madrone",'


@pytest.mark.slow
def test_all_workers_serve_the_changed_code(serve: Callable[..., Server], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "kernels").mkdir()  # watched, while those of the checkout are used, which are compiled
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    server = serve("--reload", **BY_PATH, **path, API_WORKERS="2", PREDICTION_LOG="off", SHUTDOWN_DELAY="0")

    def names() -> set[str]:
        return {HTTP.get(f"{server.url}/info", timeout=5).json()["name"] for _ in range(16)}

    eventually(lambda: server.log().count("Started worker-") == 2, process=server)
    assert names() == {"madrone"}
    file = tmp_path / "app" / "routes" / "info.py"
    text = file.read_text()
    assert NAME in text
    file.write_text("this is not Python")
    eventually(lambda: server.log().count("Unexpected exit") == 2, process=server)
    file.write_text(text.replace(NAME, '        name="changed",'))
    eventually(lambda: server.log().count("Started worker-") == 4, process=server)
    assert names() == {"changed"}
    assert server.terminate() == 0
