"""Rows like those of California Housing, made from a seed, and a model trained on them."""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

NAMES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")
TRAINED_ROWS = 20_640
DISTINCT_ROWS = 20_000
"""Number of different rows in requests; larger bodies repeat them."""
TREES, LEAVES = 500, 31
PARAMETERS = {
    "objective": "regression", "learning_rate": 0.05, "seed": 1, "deterministic": True, "force_row_wise": True,
    "num_leaves": LEAVES, "num_threads": 2, "verbose": -1,
}  # fmt: skip


def make_rows(count: int, seed: int) -> NDArray[np.float64]:
    """float64[count, 8], with as many digits as the real ones have."""
    generator = np.random.default_rng(seed)
    households = generator.integers(50, 1500, count)
    people = households + generator.integers(0, 3000, count)
    place = generator.normal(size=(2, count))
    columns = (
        np.round(generator.lognormal(1.25, 0.45, count), 4),
        generator.integers(1, 53, count),
        generator.integers(4 * households, 7 * households) / households,
        generator.integers(5 * households, 6 * households) / (5 * households),
        people,
        people / households,
        np.round(np.clip(35.6 + 2.1 * place[0], 32.5, 42.0), 2),
        np.round(np.clip(-119.6 - 1.8 * place[0] + 0.7 * place[1], -124.4, -114.3), 2),
    )
    return np.column_stack(columns).astype(np.float64)


def make_target(rows: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """float64[N], a price that follows income, place, crowding and age, with noise."""
    income, age, rooms, _, _, occupation, latitude, longitude = rows.T
    coast = np.exp(-np.abs(longitude + 119.6 + 0.86 * (latitude - 35.6)))
    price = 0.4 * income + 0.8 * coast + 0.004 * age + 0.1 * np.sin(rooms) - 0.15 * np.log(occupation)
    return price + np.random.default_rng(seed).normal(scale=0.3, size=len(rows))


def train_model(cache: Path) -> Path:
    """MLflow's directory of a plain booster, kept in the cache; LightGBM's text is in its file `model.lgb`."""
    rows = make_rows(TRAINED_ROWS, 1)
    target = make_target(rows, 2)
    known = json.dumps([PARAMETERS, TREES, version("lightgbm"), version("mlflow")]).encode()
    digest = hashlib.sha256(b"".join([known, rows.tobytes(), target.tobytes()])).hexdigest()
    path = cache / "models" / f"http-{digest[:12]}"
    if not path.exists():
        from mlflow.lightgbm import save_model
        from mlflow.models import infer_signature

        data = lgb.Dataset(rows, target, feature_name=list(NAMES))
        booster = lgb.train(PARAMETERS, data, TREES)
        frame = pd.DataFrame(rows[:5], columns=list(NAMES))
        part: Any = path.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        save_model(
            booster, str(part), signature=infer_signature(frame, booster.predict(frame)),
            pip_requirements=["lightgbm"],
        )  # fmt: skip
        part.rename(path)
    return path
