"""A small made-up town with everything that a recipe can have."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.training import Areas, Dataset, Recipe
from kernels.plan.plan import Factor, GaussianProcess, Neighbours, Product, Regression, Term

NAMES = ("north", "east", "size", "age")
ROWS = 500


def town(rows: int = ROWS, seed: int = 5) -> Dataset:
    """Houses whose price follows size and a smooth field over the place; places on a grid, so that many are equal."""
    random = np.random.default_rng(seed)
    place = np.round(random.uniform(0, 4, (rows, 2)), 1)
    size, age = random.lognormal(4, 0.5, rows), random.uniform(0, 60, rows)
    field = np.sin(2 * place[:, 0]) * np.cos(2 * place[:, 1])
    price = 2 + field + 0.004 * size + random.normal(0, 0.1 + 0.1 * (place[:, 0] > 2), rows)
    frame = pd.DataFrame({"north": place[:, 0], "east": place[:, 1], "size": size, "age": age, "price": price})
    return Dataset.from_frame(frame, "price", "made up")


NEIGHBOURS = Neighbours(
    output="near",
    inputs=("north", "east"),
    counts=(1, 4, 8),
    contrasts=("size", "age"),
    contrast_counts=(8,),
    regressions=(Regression(output="one", inputs=("size",), count=16),),
)
PROCESS = GaussianProcess(
    output="process",
    terms=(
        Term(variance=1.0, factors=(Factor(shape="matern32", inputs=("north", "east")),)),
        Term(variance=0.5, factors=(Factor(shape="exponential", inputs=("size",)),)),
    ),
)
RECIPE = Recipe(
    steps=(Product(output="area", left="size", right="size"),),
    references=(NEIGHBOURS, PROCESS),
    parameters={"num_leaves": 8, "max_bin": 63},
    max_rounds=40,
    early_stopping_rounds=10,
    areas=Areas(inputs=("north", "east"), count=12, holdouts=2),
    unit="gold",
)


def rmse(predicted: NDArray[np.floating], actual: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((predicted - actual) ** 2)))
