"""A booster trained on pandas categories of text, whole numbers and booleans, in a model directory."""

from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from tests.models.support import mlflows_own_warnings_silenced, save_booster

COLORS = ["red", "blue", "", "grün, \"hell\"", "line\nend"]  # fmt: skip
SIZES = [30, 10, 20, -5]
ROWS = 3000
PARAMETERS: dict[str, Any] = {
    "objective": "regression", "num_leaves": 16, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1,
    "num_threads": 1, "verbosity": -1, "seed": 1, "deterministic": True,
}  # fmt: skip


class Trained(NamedTuple):
    """A booster of a text, a whole number, a boolean and a number; its directory; and a frame of rows to ask for."""

    booster: lgb.Booster
    directory: Path
    asked: pd.DataFrame


def frame(count: int, colors: list[Any], sizes: list[Any], flags: list[Any], seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)

    def drawn(values: list[Any], dtype: Any) -> pd.Categorical:
        places = random.integers(0, len(values) + 1, count)
        picked = [None if place == len(values) else values[place] for place in places.tolist()]
        return pd.Categorical(picked, categories=pd.Index(values, dtype=dtype))

    income = random.normal(size=count)
    income[random.random(count) < 0.1] = np.nan
    return pd.DataFrame({
        "color": drawn(colors, object),
        "income": income,
        "size": drawn(sizes, "int64"),
        "flag": drawn(flags, bool),
    })  # fmt: skip


def trained_on(directory: Path) -> Trained:
    table = frame(2000, COLORS, SIZES, [False, True], 0)
    target = table["color"].cat.codes * 1.5 + (table["size"].cat.codes == 1) * 4 + table["flag"].cat.codes
    data = lgb.Dataset(table, target + table["income"].fillna(0.5) * 0.3, params=PARAMETERS)
    booster = lgb.train(PARAMETERS, data, num_boost_round=20)
    with mlflows_own_warnings_silenced():
        typed = table.assign(
            color=table["color"].astype(object), size=table["size"].astype(float).fillna(0).astype(int)
        )
        typed["flag"] = typed["flag"].isin([True])
        example = typed[typed["color"].notna() & typed["income"].notna()][:1]
        signature = infer_signature(typed, np.zeros(1))
    directory = save_booster(booster, directory, signature=signature, input_example=example)
    # Values that are none of the categories, too: of the flag there are none.
    asked = frame(ROWS, [*COLORS, "mauve", "Red"], [*SIZES, 40, 0], [False, True], 1)
    return Trained(booster, directory, asked)
