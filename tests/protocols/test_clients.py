"""The clients that app/protocols/README.md shows, and MLflow's own with all that it sends, are answered."""

import json
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import PredictionsResponse
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from tests.support import BY_PATH, HTTP, ROOT, Server, free_port, server_environ

README = (ROOT / "app" / "protocols" / "README.md").read_text(encoding="utf-8")
CLIENTS = ("requests", "mlflow", "http", "grpc")
ROW = [8.3252, 41, 6.98, 1.02, 322, 2.56, 37.88, -122.23]


def shown(name: str) -> str:
    """The code of a block of the page."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->", README, re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(grpc_port: int, registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("clients")
    environ = server_environ(registry_dir, directory) | BY_PATH | {"GRPC_PORT": str(grpc_port)}
    server = Server(environ, directory).wait_ready()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def expected() -> float:
    return read_artifact(BUNDLED / "model").engine().predict(np.array([ROW])).item()


def test_every_client_that_the_page_shows_gets_the_prediction(server: Server, grpc_port: int, expected: float) -> None:
    for name in CLIENTS:
        # To MLflow's client, host and port are two arguments.
        code = shown(name).replace("localhost:8000", f"127.0.0.1:{server.port}").replace(", 8000)", f", {server.port})")
        names: dict[str, Any] = {}
        exec(compile(code.replace("localhost:8002", f"127.0.0.1:{grpc_port}"), "README.md", "exec"), names)
        assert names["prediction"] == expected, name
        if hasattr(names.get("client"), "close"):
            names["client"].close()


def test_the_requests_by_curl_get_the_prediction(server: Server, expected: float) -> None:
    commands = (
        shown("curl").replace("curl ", "echo; curl --silent ").replace("localhost:8000", f"127.0.0.1:{server.port}")
    )
    run = subprocess.run(["sh", "-c", commands], capture_output=True, text=True, check=True, timeout=60)
    invocations, infer = map(json.loads, run.stdout.strip().splitlines())
    assert invocations == {"predictions": [expected]}
    assert infer["outputs"][0]["data"] == [expected]


def test_the_scoring_client_gets_the_predictions(server: Server, example: dict[str, float]) -> None:
    client = ScoringServerClient("127.0.0.1", server.port)
    client.wait_server_ready(timeout=180, scoring_server_proc=server.popen)
    assert client.get_version() == version("mlflow")
    rows = pd.DataFrame([example] * 20)
    rows["HouseAge"] = np.linspace(2, 40, len(rows))
    records = rows.to_dict(orient="records")
    asked = HTTP.post(f"{server.url}/predict/batch", json={"predictions": records}).json()["predictions"]
    expected = [item["prediction"] for item in asked]
    assert len(set(expected)) > 5
    reordered = rows[rows.columns[::-1]].set_index(np.arange(5, 25))
    for data in (rows, reordered, records, json.dumps({"dataframe_records": records})):
        response = client.invoke(data, params={"ignored": 1})
        assert isinstance(response, PredictionsResponse)
        assert response.get_predictions("ndarray").tolist() == expected
        assert response.get_predictions()[0].tolist() == expected
    with pytest.raises(Exception, match=r"error code 400.*INVALID_PARAMETER_VALUE.*MedInc: is missing"):
        client.invoke(rows.drop(columns="MedInc"))
