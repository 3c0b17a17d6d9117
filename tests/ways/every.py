"""All ways by group. `python -m tests.ways.every` prints their table, which stands in app/models/README.md."""

from tests.ways import boosters, columns, estimators, wrapped
from tests.ways.way import Way, table

GROUPS: dict[str, tuple[Way, ...]] = {
    "Boosters of `lightgbm.train`": boosters.WAYS,
    "Boosters trained on other columns than float64, with a signature": columns.WAYS,
    "Models of LightGBM's scikit-learn API": estimators.WAYS,
    "Models inside other objects, and other flavors": wrapped.WAYS,
}

if __name__ == "__main__":
    print(table(GROUPS))
