"""What a person should know before trusting a calibration, as sentences."""

import numpy as np

from app.calibration.optimism import SUSPICIOUS
from app.codecs.rules import FloatArray
from app.config.contradictions import LEAST_BASELINE
from app.models.predictions.reliability import Reliability
from app.models.served import ServedModel


def r_squared(prediction: FloatArray, actual: FloatArray) -> float | None:
    """Share of the target's variance that predictions explain; None for a target that is the same in all rows."""
    spread = float(((actual - actual.mean()) ** 2).sum())
    return None if spread == 0 else 1 - float(((actual - prediction) ** 2).sum()) / spread


def about_rows(target: str, actual: FloatArray, r2: float | None, reliability: Reliability | None) -> list[str]:
    """Notes on rows that the model knows nothing of, such as a target in another unit."""
    if reliability is not None:
        known = _baseline(actual)
        if known == 0:
            return [f"{target} is the same in all rows."]
        if reliability.log_loss > known:
            return [
                f"The log loss is above {known:.4f}, which the mere shares of the classes have. Is {target} what the "
                "model predicts, and are its classes in the model's order?"
            ]
        return []
    if r2 is None:
        return [f"{target} is the same in all rows."]
    if r2 < 0:
        return [
            f"The predictions are farther from {target} than its mean is (R² {r2:.4g}). Is it what the model predicts, "
            "in the same unit?"
        ]
    return []


def about_training(share: float | None) -> list[str]:
    """A note on rows that look like those of the training."""
    if share is None or share <= SUSPICIOUS:
        return []
    return [
        f"The last trees fit these rows nearly as well as the rows that they were fitted on ({share:.2f} of 1). If the "
        "model was fitted on them, errors on new rows will be larger. If it was not, it has so few trees that its last "
        "ones still learn what is true of all rows."
    ]


def about_model(served: ServedModel, levels: tuple[float, ...], rows: int) -> list[str]:
    """Notes on what the model has already, and on a reference of few rows."""
    notes: list[str] = []
    own = served.artifact.intervals
    if own is not None and levels and (lost := sorted({*own.levels} - {*levels})):
        notes.append(
            f"The model also has intervals of {', '.join(map(str, lost))}. A service does not change from it to a "
            "version without them, unless that one is pinned."
        )
    if served.artifact.profile is not None:
        notes.append("The model has a profile for drift of its own, which stays.")
    elif rows < LEAST_BASELINE:
        notes.append(f"Chance alone moves a profile of so few rows: take {LEAST_BASELINE} or expect false alarms.")
    return notes


def _baseline(actual: FloatArray) -> float:
    """Log loss of the shares of the classes."""
    shares = np.unique(actual, return_counts=True)[1] / len(actual)
    return float((shares * -np.log(shares)).sum())
