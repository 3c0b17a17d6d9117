"""The features of a wide model that drift detection watches: those that its booster gains most by."""

import re

import numpy as np

from app.drift.profile import MAX_FEATURES
from app.feature import Feature

SPLITS = re.compile(r"^split_(feature|gain)=(.*)$", re.MULTILINE)


def watched_features(features: tuple[Feature, ...], text: str, *, planned: bool) -> tuple[str, ...]:
    """Names of at most `MAX_FEATURES` features, in the model's order.

    Args:
        features: The model's features.
        text: Its booster, in LightGBM's native text.
        planned: Whether a feature plan makes the booster's features. These are others than the model's, and the first
            ones of the model are watched.
    """
    if len(features) <= MAX_FEATURES or planned:
        return tuple(feature.name for feature in features[:MAX_FEATURES])
    gains = _gains(text, len(features))
    chosen = sorted(np.argsort(-gains, kind="stable")[:MAX_FEATURES].tolist())
    return tuple(features[place].name for place in chosen)


def _gains(text: str, count: int) -> np.ndarray:
    """Sum of the gains of each feature's splits, float64[F], as `Booster.feature_importance("gain")`."""
    gains = np.zeros(count)
    places = np.empty(0, np.intp)
    for found in SPLITS.finditer(text):
        numbers = found[2].split()
        if found[1] == "feature":
            places = np.array(numbers, dtype=np.intp)
        elif len(numbers) == len(places):
            np.add.at(gains, places, np.nan_to_num(np.array(numbers, dtype=np.float64)))
    return gains
