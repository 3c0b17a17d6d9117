"""A BentoML service with one worker, arrays in and out, as its documentation serves a model of scikit-learn's kind.

MODEL=model.txt bentoml serve benchmarks.servers.bentoml:Forest
"""

import os

import bentoml
import lightgbm as lgb
import numpy as np


@bentoml.service(workers=1)
class Forest:
    """`{"rows": [[...], ...]}` is answered with a list of predictions."""

    def __init__(self) -> None:
        self.booster = lgb.Booster(model_file=os.environ["MODEL"])

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predictions float64[B] of rows float64[B, F]."""
        return self.booster.predict(rows, num_threads=1)
