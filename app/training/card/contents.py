"""The model card: what a person, and what drift detection, must know of a trained model.

`Card` is plain data and is written whole as JSON; the page and the pictures are made from it. Any data set will do.
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
from app.training.calibrate import Coverage
from app.training.histogram import Histogram

SHOWN_FEATURES = 20
"""Of the importance, in the page's table and in the picture."""

Array = NDArray[np.float64]


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that there were.

    Attributes:
        source: Where they came from.
        rows: How many, the parts of the split together.
        sha256: Over their values, as the data set states it.
        target: Name of what is predicted.
        unit: Of the target, "" where it has none.
    """

    source: str
    rows: int
    sha256: str
    target: str
    unit: str = ""


class SplitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows each part has, and how the parts were made.

    Attributes:
        method: One sentence, with its full stop.
    """

    seed: int
    fit: int
    validation: int
    test: int
    method: str


class Folds(msgspec.Struct, frozen=True, kw_only=True):
    """How far the error differs from one part of the fit rows to another.

    Attributes:
        rmse: Of each fold, by a forest that was fitted on the other folds.
        mean: Of the folds.
        standard_deviation: Of the folds, with n - 1 in the denominator.
    """

    rmse: tuple[float, ...]
    mean: float
    standard_deviation: float


class UnseenArea(msgspec.Struct, frozen=True, kw_only=True):
    """One repetition of holding whole areas out.

    Attributes:
        repetition: Its number.
        rows: How many were held out and predicted.
        rmse: Of this model's recipe, None where it was not measured, like the other two.
        rmse_without_references: Of the same recipe with no reference features, and so with no copies either.
        rmse_without_copies: Of the same recipe with no leave-area-out copies of the fit rows.
    """

    repetition: int
    rows: int
    rmse: float | None = None
    rmse_without_references: float | None = None
    rmse_without_copies: float | None = None


class Importance(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature does in the forest.

    Attributes:
        feature: As the booster names it.
        gain: Share of the gain of all splits; 0 throughout where the forest has no splits.
        splits: How many nodes split on it.
    """

    feature: str
    gain: float
    splits: int


class Histograms(msgspec.Struct, frozen=True, kw_only=True):
    """Of the fit rows: each raw feature by its name, and the prediction."""

    features: dict[str, Histogram]
    prediction: Histogram


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a prediction takes on the machine that trained the model.

    Attributes:
        batch_rows: How many rows the batch had.
        batch_us_per_row: Microseconds of each of its rows.
        single_row_us: Microseconds of a row that comes alone.
    """

    batch_rows: int
    batch_us_per_row: float
    single_row_us: float


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Of what the model was made with."""

    lightgbm: str
    numpy: str
    madrone: str

    @classmethod
    def installed(cls) -> "Versions":
        """Those that are running now."""
        return cls(lightgbm=lgb.__version__, numpy=np.__version__, madrone=__version__)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a trained model, every number finite; what was not measured is None or empty.

    Attributes:
        title: Of the page.
        created: With a time zone.
        metrics: Of the parts of the split, named like `test_rmse` (parts fit, validation, test; rmse, mae, r2), and
            others under any name.
        folds: Out-of-fold errors of the fit rows.
        intervals: What those of each level did on the test rows.
        importance: Descending by gain.
        outside_distance: A row farther than this from its nearest stored row is answered with a warning; in the
            distance of the plan's neighbours.
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
    """Where the test rows are and how wrong the model was on them; for the picture, and no part of the card.

    Attributes:
        x: float64[N], one coordinate; a row with anything that is not finite is not drawn.
        y: float64[N], the other one.
        absolute_error: float64[N], in the target's unit.
        x_name: Of the first coordinate.
        y_name: Of the second.
        degrees: Whether x is a longitude and y a latitude in degrees; then the map has a scale that is the same in
            both directions at its middle latitude.
    """

    x: Array
    y: Array
    absolute_error: Array
    x_name: str
    y_name: str
    degrees: bool = False


def folds_of(rmse: Sequence[float]) -> Folds:
    """Sum up the RMSE of each fold.

    Raises:
        ValueError: There are fewer than two, which have no spread.
    """
    if len(rmse) < 2:
        raise ValueError(f"a spread needs two folds or more, got {len(rmse)}")
    scores = np.asarray(rmse, dtype=np.float64)
    return Folds(rmse=tuple(scores.tolist()), mean=float(scores.mean()), standard_deviation=float(scores.std(ddof=1)))


def importance_of(booster_text: str) -> tuple[Importance, ...]:
    """Importance of every feature of a booster in LightGBM's native text: descending gain, then the booster's order."""
    booster = lgb.Booster(model_str=booster_text)
    gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    splits = np.asarray(booster.feature_importance("split"))
    names, total = booster.feature_name(), gain.sum()
    return tuple(
        Importance(feature=names[index], gain=float(gain[index] / total) if total else 0.0, splits=int(splits[index]))
        for index in np.argsort(-gain, kind="stable").tolist()
    )


def card_json(card: Card) -> bytes:
    """The card as JSON, for a machine that reads it and a person who looks.

    Raises:
        ValueError: A number of the card is not finite; the message names it.
    """
    content: Any = msgspec.to_builtins(card, enc_hook=_plain)
    if name := _not_finite(content, "card"):
        raise ValueError(f"{name} is no finite number")
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def one_line(text: str) -> str:
    """A text with each run of white space and control characters as one space."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def number(value: float | None, absent: str = "") -> str:
    """A number to four digits, a count in full."""
    if value is None:
        return absent
    return f"{value:,.0f}" if isinstance(value, int) or 1_000 <= abs(value) < 1e15 else f"{value:.4g}"


def in_unit(unit: str) -> str:
    """What follows a quantity that is in a unit; nothing where there is none."""
    return f" in {unit}" if unit.strip() else ""


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a card cannot hold {type(value).__name__}")


def _not_finite(content: Any, name: str) -> str | None:
    """Name of the first number that JSON cannot hold."""
    if isinstance(content, float):
        return None if math.isfinite(content) else name
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(content, dict):
        items = ((f"{name}.{key}", value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        items = ((f"{name}[{index}]", value) for index, value in enumerate(content))
    return next((found for key, value in items if (found := _not_finite(value, key))), None)
