"""MLflow's own clients against a served model, as they are."""

import json
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import PredictionsResponse
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from tests.support import HTTP, Server


def test_the_scoring_client_gets_the_predictions(serve: Callable[..., Server], example: dict[str, float]) -> None:
    server = serve()
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
