"""A script as people write it: read a table by pandas, predict by LightGBM on all cores, write it.

python -m benchmarks.peers.scorers.frame MODEL INPUT OUTPUT
"""

import sys

import lightgbm as lgb
import pandas as pd


def main() -> None:
    model, source, target = sys.argv[1:]
    booster = lgb.Booster(model_file=model)
    frame = pd.read_parquet(source)
    scored = frame[["id"]].assign(prediction=booster.predict(frame[booster.feature_name()]))
    scored.to_parquet(target)


if __name__ == "__main__":
    main()
