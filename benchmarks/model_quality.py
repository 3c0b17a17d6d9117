"""Measures the California Housing model on five splits of the real data.

    just bench model_quality [--data FILE]

Method: for each seed s of 0 to 4 the rows are split by scikit-learn's `train_test_split` (20 % test with random_state
s, 20 % of the rest to stop early with s + 1), the model is fitted as `just train` does it, and tested once. Training is
deterministic, so there is nothing to repeat. The report goes to benchmarks/reports/model_quality.md and .json.
"""

import argparse
import json
import statistics
from importlib.metadata import version
from pathlib import Path

from app.training.dataset import load_dataset
from app.training.train import PARAMETERS, train

REPORTS = Path(__file__).parent / "reports"
SEEDS = range(5)
COLUMNS = ("validation_rmse", "test_rmse", "test_mae", "test_r2", "trees")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CSV file with the California Housing columns")
    dataset = load_dataset(parser.parse_args().data)
    results = []
    for seed in SEEDS:
        metrics = train(dataset, seed=seed).metrics
        results.append({"seed": seed, **{name: metrics[name] for name in COLUMNS}})
        print(f"seed {seed}: test RMSE {metrics['test_rmse']:.4f}", flush=True)
    rmse = [result["test_rmse"] for result in results]
    lines = [
        "# The California Housing model on five splits",
        "",
        f"{len(dataset.target)} rows from {dataset.source}, SHA-256 {dataset.sha256}; LightGBM {version('lightgbm')}.",
        "",
        "| split seed | " + " | ".join(COLUMNS) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
        *(
            f"| {result['seed']} | " + " | ".join(f"{result[name]:.4g}" for name in COLUMNS) + " |"
            for result in results
        ),
        "",
        f"Test RMSE: mean {statistics.mean(rmse):.4f}, standard deviation {statistics.stdev(rmse):.4f}.",
    ]
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "model_quality.md").write_text("\n".join(lines) + "\n")
    report = {"data_sha256": dataset.sha256, "parameters": PARAMETERS, "results": results}
    (REPORTS / "model_quality.json").write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
