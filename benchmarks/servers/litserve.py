"""LitServe with one worker, as its documentation serves a model of scikit-learn's kind.

MODEL=model.txt python -m benchmarks.servers.litserve PORT
"""

import os
import sys
from typing import Any

import lightgbm as lgb
import litserve as ls
import numpy as np


class Forest(ls.LitAPI):
    """`{"input": rows}`, each a list of numbers, is answered with `{"output": predictions}`."""

    def setup(self, device: str) -> None:
        """Read the model."""
        self.booster = lgb.Booster(model_file=os.environ["MODEL"])

    def decode_request(self, request: dict[str, Any], **_: Any) -> np.ndarray:
        """Rows float64[B, F] of a body."""
        return np.array(request["input"])

    def predict(self, x: np.ndarray, **_: Any) -> np.ndarray:
        """Predictions float64[B]."""
        return self.booster.predict(x, num_threads=1)

    def encode_response(self, output: np.ndarray, **_: Any) -> dict[str, Any]:
        """A body."""
        return {"output": output.tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Forest(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="warning", generate_client_file=False
    )
