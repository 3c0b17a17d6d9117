"""Example cards and error maps, and the pixels of their pictures."""

import io
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from app.drift.histogram import Histogram
from app.training.calibrate import Coverage
from app.training.card.contents import (
    Card,
    Cost,
    Data,
    ErrorMap,
    Histograms,
    Importance,
    SplitSummary,
    UnseenArea,
    Versions,
    folds_of,
)

UGLY = "$\\frac$ a|b\n| --- |\n# `c` *d* _e_ <b> [f](g) \\ &amp;"

HISTOGRAM = Histogram(edges=(0.125, 1.75, 3.5), shares=(0.25, 0.75), missing=0.0625)
MINIMAL = Card(
    title="Rain of tomorrow",
    created=datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
    data=Data(source="gauge.csv", rows=1234, sha256="ab" * 32, target="rain"),
    split=SplitSummary(seed=17, fit=800, validation=201, test=233, method="By date."),
    metrics={},
    histograms=Histograms(features={}, prediction=HISTOGRAM),
    versions=Versions(lightgbm="4.7.1", numpy="2.4.2", madrone="1.0.3"),
)
FULL = msgspec.structs.replace(
    MINIMAL,
    data=msgspec.structs.replace(MINIMAL.data, unit="mm a day"),
    metrics={
        **{"fit_rmse": 0.3011, "fit_mae": 0.2012, "fit_r2": 0.9013},
        **{"validation_rmse": 0.4021, "validation_mae": 0.2822, "validation_r2": 0.8523},
        **{"test_rmse": 0.4131, "test_mae": 0.2932, "test_r2": 0.8433},
        "trees": 331.0,
    },
    folds=folds_of([0.381, 0.395, 0.402, 0.389, 0.417]),
    unseen_areas=(
        UnseenArea(repetition=1, rows=3111, rmse=0.611, rmse_without_references=0.633, rmse_without_copies=0.722),
        UnseenArea(repetition=2, rows=3222, rmse=0.644, rmse_without_references=0.655),
    ),
    intervals=tuple(
        Coverage(
            level=level,
            rows=232,
            coverage=level + 0.003,
            mean_width=2.5 * level,
            by_difficulty=tuple(level + 0.001 * step for step in (7, 6, 5, 4, 3, -9, 2, 1, 8, 9)),
            by_prediction=tuple(level + 0.001 * step for step in (9, 8, 7, 6, 5, 4, 3, 2, 1, -8)),
            worst_decile=level - 0.009,
        )
        for level in (0.5, 0.9)
    ),
    importance=tuple(
        Importance(feature=f"feature_{rank}", gain=(24 - rank) / 300, splits=2400 - rank) for rank in range(24)
    ),
    histograms=Histograms(
        features={"wind": HISTOGRAM, "dew": Histogram(edges=(), shares=(), missing=1.0)},
        prediction=Histogram(edges=(0.375, 11.625), shares=(1.0,), missing=0.0),
    ),
    cost=Cost(batch_rows=4128, batch_us_per_row=1.371, single_row_us=12.83),
    outside_distance=1.618,
)


def error_map(**changes: Any) -> ErrorMap:
    """Errors of 500 rows that grow from west to east."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-124, -114, 500), rng.uniform(32, 42, 500)
    whole = ErrorMap(x=x, y=y, absolute_error=(x + 124) / 10, x_name="Longitude", y_name="Latitude")
    return msgspec.structs.replace(whole, **changes)


def pixels(content: bytes) -> np.ndarray:
    """uint8[height, width, 3]: pixels of a PNG file."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))
