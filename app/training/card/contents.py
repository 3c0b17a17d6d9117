"""Contents of a model card: what people and drift detection need to know about a trained model.

`Card` is plain data and is written as JSON; the page and the pictures are made from it. It fits any data set.
"""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray

from app import __version__
from app.drift.histogram import Histogram
from app.training.calibrate import Coverage

SHOWN_FEATURES = 20
"""Number of features that the page's table and the picture show, the most important ones."""

Array = NDArray[np.float64]


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """Data that the model was made from.

    Attributes:
        source: Where the rows came from.
        rows: Number of rows in all parts of the split.
        sha256: Checksum of the values, as the data set states it.
        target: Name of what is predicted.
        unit: Unit of the target, "" if it has none.
    """

    source: str
    rows: int
    sha256: str
    target: str
    unit: str = ""


class SplitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Number of rows in each part of the split, and how the parts were made.

    Attributes:
        seed: Seed of the random split.
        fit: Rows that the model was fitted on.
        validation: Rows that stopped the fit and calibrated the intervals.
        test: Rows that the model was tested on.
        method: How the rows were split: one sentence, with its full stop.
    """

    seed: int
    fit: int
    validation: int
    test: int
    method: str


class Folds(msgspec.Struct, frozen=True, kw_only=True):
    """Variation of the error between folds of the fit rows.

    Attributes:
        rmse: RMSE of each fold, predicted by a forest fitted on the other folds.
        mean: Mean of these.
        standard_deviation: Standard deviation of these, with n - 1 in the denominator.
    """

    rmse: tuple[float, ...]
    mean: float
    standard_deviation: float


class UnseenArea(msgspec.Struct, frozen=True, kw_only=True):
    """Error in areas that were held out whole, in one repetition. An RMSE is None if it was not measured.

    Attributes:
        repetition: Number of the repetition.
        rows: Number of rows that were held out and predicted.
        rmse: RMSE of this model's recipe.
        rmse_without_references: RMSE of the same recipe without reference features, and so without copies as well.
        rmse_without_copies: RMSE of the same recipe without leave-area-out copies of the fit rows.
    """

    repetition: int
    rows: int
    rmse: float | None = None
    rmse_without_references: float | None = None
    rmse_without_copies: float | None = None


class Importance(msgspec.Struct, frozen=True, kw_only=True):
    """Importance of one feature in the forest.

    Attributes:
        feature: Name of the feature in the booster.
        gain: Share of the total gain of all splits; 0 for every feature if the forest has no splits.
        splits: Number of nodes that split on the feature.
    """

    feature: str
    gain: float
    splits: int


class Histograms(msgspec.Struct, frozen=True, kw_only=True):
    """Histograms of the fit rows: of each raw feature, by name, and of the prediction."""

    features: dict[str, Histogram]
    prediction: Histogram


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of a prediction on the machine that trained the model.

    Attributes:
        batch_rows: Number of rows in the measured batch.
        batch_us_per_row: Microseconds for each row of the batch.
        single_row_us: Microseconds for a single row.
    """

    batch_rows: int
    batch_us_per_row: float
    single_row_us: float


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of the packages that made the model."""

    lightgbm: str
    numpy: str
    madrone: str

    @classmethod
    def installed(cls) -> "Versions":
        """Versions that are installed now."""
        return cls(lightgbm=lgb.__version__, numpy=np.__version__, madrone=__version__)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about a trained model. Every number is finite; what was not measured is None or empty.

    Attributes:
        title: Title of the page.
        created: Time of training, with a time zone.
        metrics: Metrics of the parts of the split, named like `test_rmse` (parts fit, validation, test; measures rmse,
            mae, r2), and others under any name.
        folds: Out-of-fold errors of the fit rows.
        intervals: Coverage of the intervals of each level on the test rows.
        importance: Importance of the features, descending by gain.
        outside_distance: A row farther than this from its nearest stored row is answered with a warning. Measured in
            the distance of the plan's neighbours.
    """

    title: str
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    data: Data
    split: SplitSummary
    metrics: dict[str, float]
    folds: Folds | None = None
    unseen_areas: tuple[UnseenArea, ...] = ()
    intervals: tuple[Coverage, ...] = ()
    importance: tuple[Importance, ...] = ()
    histograms: Histograms
    cost: Cost | None = None
    outside_distance: float | None = None
    versions: Versions


class ErrorMap(msgspec.Struct, frozen=True, kw_only=True):
    """Places and errors of the test rows, for the picture; not part of the card.

    A row with a value that is not finite is not drawn.

    Attributes:
        x: float64[N], the horizontal coordinate.
        y: float64[N], the vertical coordinate.
        absolute_error: float64[N], in the target's unit.
        x_name: Name of the horizontal coordinate.
        y_name: Name of the vertical coordinate.
        degrees: Whether x is a longitude and y a latitude in degrees. Then the map has the same scale in both
            directions at its middle latitude.
    """

    x: Array
    y: Array
    absolute_error: Array
    x_name: str
    y_name: str
    degrees: bool = False


def folds_of(rmse: Sequence[float]) -> Folds:
    """Summarise the RMSE of each fold.

    Raises:
        ValueError: There are fewer than two folds, so no spread.
    """
    if len(rmse) < 2:
        raise ValueError(f"a spread needs two folds or more, got {len(rmse)}")
    scores = np.asarray(rmse, dtype=np.float64)
    return Folds(rmse=tuple(scores.tolist()), mean=float(scores.mean()), standard_deviation=float(scores.std(ddof=1)))


def importance_of(booster_text: str) -> tuple[Importance, ...]:
    """Importance of every feature of a booster, given as LightGBM's text: descending gain, then the booster's order."""
    booster = lgb.Booster(model_str=booster_text)
    gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    splits = np.asarray(booster.feature_importance("split"))
    names, total = booster.feature_name(), gain.sum()
    return tuple(
        Importance(feature=names[index], gain=float(gain[index] / total) if total else 0.0, splits=int(splits[index]))
        for index in np.argsort(-gain, kind="stable").tolist()
    )


def card_json(card: Card) -> bytes:
    """The card as indented JSON.

    Raises:
        ValueError: A number of the card is not finite; the message names it.
    """
    content: Any = msgspec.to_builtins(card, enc_hook=_plain)
    if name := _not_finite(content, "card"):
        raise ValueError(f"{name} is not a finite number")
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def one_line(text: str) -> str:
    """A text on one line: each run of white space and control characters becomes one space."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def number(value: float | None, absent: str = "") -> str:
    """A number to four digits, a count in full, and `absent` for None."""
    if value is None:
        return absent
    return f"{value:,.0f}" if isinstance(value, int) or 1_000 <= abs(value) < 1e15 else f"{value:.4g}"


def in_unit(unit: str) -> str:
    """Text that follows a quantity to name its unit; empty if there is no unit."""
    return f" in {unit}" if unit.strip() else ""


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a card cannot hold {type(value).__name__}")


def _not_finite(content: Any, name: str) -> str | None:
    """Path to the first number that JSON cannot hold."""
    if isinstance(content, float):
        return None if math.isfinite(content) else name
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(content, dict):
        items = ((f"{name}.{key}", value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        items = ((f"{name}[{index}]", value) for index, value in enumerate(content))
    return next((found for key, value in items if (found := _not_finite(value, key))), None)
