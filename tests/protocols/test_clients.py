"""The clients that app/protocols/README.md shows are answered as it says, all with the same prediction."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from tests.support import ROOT, Server, free_port

README = (ROOT / "app" / "protocols" / "README.md").read_text(encoding="utf-8")
CLIENTS = ("requests", "mlflow", "http", "grpc")
ROW = [8.3252, 41, 6.98, 1.02, 322, 2.56, 37.88, -122.23]


def shown(name: str) -> str:
    """The code of a block of the page."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->", README, re.DOTALL)
    assert found is not None, name
    return found[1]


def test_every_client_that_the_page_shows_gets_the_prediction(serve: Callable[..., Server]) -> None:
    port = free_port()
    server = serve(GRPC_PORT=str(port)).wait_ready()
    expected = read_artifact(BUNDLED / "model").engine().predict(np.array([ROW])).item()
    for name in CLIENTS:
        # To MLflow's client, host and port are two arguments.
        code = shown(name).replace("localhost:8000", f"127.0.0.1:{server.port}").replace(", 8000)", f", {server.port})")
        names: dict[str, Any] = {}
        exec(compile(code.replace("localhost:8002", f"127.0.0.1:{port}"), "README.md", "exec"), names)
        assert names["prediction"] == expected, name
        if hasattr(names.get("client"), "close"):
            names["client"].close()


def test_the_requests_by_curl_get_the_prediction(serve: Callable[..., Server]) -> None:
    server = serve().wait_ready()
    expected = read_artifact(BUNDLED / "model").engine().predict(np.array([ROW])).item()
    commands = (
        shown("curl").replace("curl ", "echo; curl --silent ").replace("localhost:8000", f"127.0.0.1:{server.port}")
    )
    run = subprocess.run(["sh", "-c", commands], capture_output=True, text=True, check=True, timeout=60)
    invocations, infer = map(json.loads, run.stdout.strip().splitlines())
    assert invocations == {"predictions": [expected]}
    assert infer["outputs"][0]["data"] == [expected]
