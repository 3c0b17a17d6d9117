"""Meaning of a model's predictions, and what a request can ask for beside them."""

from typing import Literal

from app.codecs.classes import Labels
from app.config.fields import Output

Meaning = Literal["value", "score", "probability", "probabilities", "raw_score"]
"""Meaning of `prediction`:

- `value`: in the unit of the target
- `score`: of a ranking, where only the order counts
- `probability`: of the second class, or of the target being 1
- `probabilities`: of each class
- `raw_score`: of an objective of the user's own, whose conversion the model does not hold
"""

MEANINGS: dict[str, Meaning] = {
    "": "raw_score",
    "custom": "raw_score",
    "binary": "probability",
    "cross_entropy": "probability",
    "multiclass": "probabilities",
    "multiclassova": "probabilities",
    "lambdarank": "score",
    "rank_xendcg": "score",
}
"""Meaning by the name of LightGBM's objective; all others predict a value."""

CLASSIFYING = ("binary", "multiclass", "multiclassova")
"""Objectives whose predictions are probabilities of classes."""


def meaning(objective: str) -> Meaning:
    """Meaning of the predictions of an objective, as LightGBM writes it."""
    return MEANINGS.get(_name(objective), "value")


def usable_labels(objective: str, labels: Labels | None) -> Labels | None:
    """Labels of a classifier, but None for an objective of the user's own: LightGBM's wrapper gives no classes then."""
    return None if meaning(objective) == "raw_score" else labels


def outputs(objective: str, labels: Labels | None) -> tuple[Output, ...]:
    """Outputs that a model can give.

    A classifier of the scikit-learn API gives probabilities whatever its objective, as its `predict_proba` does.

    Args:
        objective: As LightGBM writes it.
        labels: From `usable_labels`.
    """
    if labels is not None:
        return ("auto", "labels", "probabilities", "raw")
    return ("auto", "probabilities", "raw") if _name(objective) in CLASSIFYING else ("auto", "raw")


def _name(objective: str) -> str:
    return objective.partition(" ")[0]
