"""Errors and intervals of the California Housing model on five random splits, and on areas unseen in training.

    just bench model_quality [--data FILE] [--seeds N]

Method: for each seed s of 0 to 4 the rows are split by scikit-learn's `train_test_split` (20 % test with random_state
s, 20 % of the rest to stop early with s + 1), as in the papers whose figures stand beside. Each recipe is fitted on the
fit rows, stops early on the validation rows and is tested once; intervals are calibrated on the validation rows. Then
whole areas are held out (a fifth of 60 clusters of places, three times). Training is deterministic on one machine, so
there is nothing to repeat. Predictions are not capped. It takes half an hour on two cores. The report goes to
benchmarks/reports/model_quality.md and .json.
"""

import time
from typing import Any

import msgspec

from app.training.boosting import boost
from app.training.california import FULL, STATELESS
from app.training.dataset import Dataset, load_dataset
from app.training.model import train
from app.training.recipe import Recipe
from app.training.split import area_splits, split_rows
from benchmarks.report import Report, begin, context, parser, render, save

RAW = Recipe(inputs=FULL.inputs)
NO_COPIES = msgspec.structs.replace(FULL, areas=msgspec.structs.replace(FULL.areas, weight=0.0))
RECIPES = {"raw": RAW, "stateless": STATELESS, "full_without_copies": NO_COPIES, "full": FULL}


def main() -> None:
    options = parser(__doc__, data=True)
    options.add_argument("--seeds", type=int, default=5, help="how many splits")
    arguments = begin(options)
    dataset = load_dataset(arguments.data)
    report = context("model_quality", "lightgbm", "numpy", "scipy", "numba") | {
        "data_sha256": dataset.sha256,
        "rows": len(dataset.target),
        "source": dataset.source,
        "splits": [measure(dataset, seed) for seed in range(arguments.seeds)],
        "unseen_areas": measure_areas(dataset),
    }
    save("model_quality", report, page, arguments.reports)


def measure_areas(dataset: Dataset) -> list[dict[str, float]]:
    """Every recipe on areas that are held out."""
    unseen: list[dict[str, float]] = []
    for split in area_splits(dataset, FULL.areas, FULL.seed):
        boosted = {name: boost(dataset, recipe, split) for name, recipe in RECIPES.items() if name != "full"}
        # The two full recipes differ in what is boosted, not in the plan.
        boosted["full"] = boost(dataset, FULL, split, fitted=boosted["full_without_copies"].fitted)
        errors = {name: one.test_rmse(dataset, split) for name, one in boosted.items()}
        unseen.append({"rows": len(split.test)} | errors)
        print(f"unseen areas: {unseen[-1]}", flush=True)
    return unseen


def measure(dataset: Dataset, seed: int) -> dict[str, Any]:
    """Every recipe on one split; `full` with its intervals."""
    split = split_rows(len(dataset.target), seed)
    result: dict[str, Any] = {"seed": seed}
    for name, recipe in RECIPES.items():
        if name == "full":
            continue
        boosted = boost(dataset, msgspec.structs.replace(recipe, seed=seed), split)
        result[name] = {"test_rmse": boosted.test_rmse(dataset, split), "trees": boosted.rounds}
        print(f"seed {seed}, {name}: {result[name]}", flush=True)
    started = time.perf_counter()
    recipe = msgspec.structs.replace(FULL, seed=seed, areas=msgspec.structs.replace(FULL.areas, holdouts=0))
    model = train(dataset, recipe)
    names = ("test_rmse", "test_mae", "test_r2", "validation_rmse", "trees")
    result["full"] = {name: model.metrics[name] for name in names} | {"seconds": time.perf_counter() - started}
    result["intervals"] = [msgspec.to_builtins(interval) for interval in model.card.intervals]
    result["cost"] = msgspec.to_builtins(model.card.cost)
    print(f"seed {seed}, full: {result['full']}", flush=True)
    return result


def page(report: Report) -> str:
    levels = [*zip(*(one["intervals"] for one in report["splits"]), strict=True)]
    return render("model_quality", report, RECIPES=[*RECIPES], levels=levels)


if __name__ == "__main__":
    main()
