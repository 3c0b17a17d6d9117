"""A hand-written FastAPI service on uvicorn: `async def`, a pydantic model for each row, no access log.

MODEL=model.txt python -m benchmarks.servers.fastapi PORT
"""

import os
import sys

import lightgbm as lgb
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model

booster = lgb.Booster(model_file=os.environ["MODEL"])
NAMES = booster.feature_name()
app = FastAPI()


Row = create_model("Row", **dict.fromkeys(NAMES, (float, ...)))


class Rows(BaseModel):
    """Some rows."""

    predictions: list[Row]


class Prediction(BaseModel):
    """The answer for one row."""

    prediction: float


class Predictions(BaseModel):
    """The answer for some rows."""

    predictions: list[float]


def scores(rows: list[Row]) -> list[float]:
    matrix = np.array([[getattr(row, name) for name in NAMES] for row in rows])
    return booster.predict(matrix, num_threads=1).tolist()


@app.post("/predict")
async def predict(row: Row) -> Prediction:
    """One row; in the event loop, since the model takes 0.1 ms and a thread more."""
    return Prediction(prediction=scores([row])[0])


@app.post("/predict/batch")
async def predict_batch(rows: Rows) -> Predictions:
    """Some rows."""
    return Predictions(predictions=scores(rows.predictions))


@app.get("/health")
async def health() -> None:
    """Answer 200."""


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="warning")
