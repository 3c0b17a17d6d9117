"""Measures a trained model: its errors, its errors in unseen areas, and its cost."""

import time

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.training.boosting import Report, boost, silent
from app.training.card.contents import Cost, ErrorMap, UnseenArea
from app.training.dataset import Dataset
from app.training.recipe import Recipe
from app.training.split import Rows, area_splits
from kernels.engine import Engine

Array = NDArray[np.float64]


def errors_of(part: str, predicted: Array, actual: Array) -> dict[str, float]:
    """RMSE, mean absolute error and R², by names such as `test_rmse`.

    Args:
        part: Name of the part of the split, such as `test`.
        predicted: float64[N].
        actual: float64[N].
    """
    residual = predicted - actual
    return {
        f"{part}_rmse": float(np.sqrt(np.mean(residual**2))),
        f"{part}_mae": float(np.mean(np.abs(residual))),
        f"{part}_r2": float(1 - np.sum(residual**2) / np.sum((actual - actual.mean()) ** 2)),
    }


def unseen_areas(dataset: Dataset, recipe: Recipe, report: Report = silent) -> tuple[UnseenArea, ...]:
    """Train without some areas and predict them, `holdouts` times; empty if the recipe names no areas.

    Compares the recipe with the same recipe without leave-area-out copies, and without reference features.
    """
    if recipe.areas is None:
        return ()
    total = recipe.areas.holdouts
    without_copies = msgspec.structs.replace(recipe, areas=msgspec.structs.replace(recipe.areas, weight=0.0))
    results: list[UnseenArea] = []
    for split in area_splits(dataset, recipe.areas, recipe.seed):
        report("Unseen areas", len(results), total)
        boosted = boost(dataset, recipe, split)
        plain = boost(dataset, without_copies, split, fitted=boosted.fitted)
        stateless = boost(dataset, recipe.without_references(), split)
        results.append(
            UnseenArea(
                repetition=len(results) + 1,
                rows=len(split.test),
                rmse=boosted.test_rmse(dataset, split),
                rmse_without_copies=plain.test_rmse(dataset, split),
                rmse_without_references=stateless.test_rmse(dataset, split),
            )
        )
    report("Unseen areas", total, total)
    return tuple(results)


def cost_of(engine: Engine, rows: Array) -> Cost:
    """Cost of predictions: medians of nine timings, after one call that is not timed."""
    batch = rows[:1000]

    def median(part: Array, calls: int) -> float:
        engine.evaluate(part)
        timings: list[float] = []
        for _ in range(9):
            started = time.perf_counter()
            for _ in range(calls):
                engine.evaluate(part)
            timings.append((time.perf_counter() - started) / calls)
        return float(np.median(timings)) * 1e6

    return Cost(
        batch_rows=len(batch), batch_us_per_row=median(batch, 1) / len(batch), single_row_us=median(batch[:1], 20)
    )


def error_map_of(dataset: Dataset, recipe: Recipe, rows: Rows, errors: Array) -> ErrorMap | None:
    """Places and errors of the rows; None if the recipe does not have two coordinates."""
    if recipe.areas is None or len(recipe.areas.inputs) != 2:
        return None
    y_name, x_name = recipe.areas.inputs
    x, y = (dataset.features[rows, dataset.names.index(name)] for name in (x_name, y_name))
    return ErrorMap(x=x, y=y, absolute_error=errors, x_name=x_name, y_name=y_name, degrees=recipe.areas.degrees)
