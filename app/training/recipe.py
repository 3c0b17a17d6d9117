"""What to fit: a feature plan without its fitted parts, and how to boost on it."""

from typing import Any

import msgspec

from kernels.plan.plan import Input, Step
from kernels.plan.references import AnyReferenceStep

PARAMETERS: dict[str, Any] = {
    "objective": "regression",
    "metric": "rmse",
    "num_leaves": 48,
    "learning_rate": 0.05,
    "feature_fraction": 0.35,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "min_data_in_leaf": 20,
    "max_bin": 511,
    "seed": 7,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
"""Of LightGBM; one thread and fixed seeds make a run repeatable bit for bit."""


class Areas(msgspec.Struct, frozen=True, kw_only=True):
    """Where rows stand, for training on what an unseen area looks like.

    The fit rows are clustered by place. Each is added once more, its reference features computed as if its own cluster
    had no stored rows: so the forest learns how far to trust references that are not near.

    Attributes:
        inputs: The coordinates, names of inputs.
        degrees: Whether they are latitude and longitude in degrees, in this order.
        count: Clusters.
        weight: Of the added rows, beside 1 of the others; 0 for none.
        holdouts: How often a fifth of the areas is held out to measure what the model knows of unseen ones.
    """

    inputs: tuple[str, ...]
    degrees: bool = False
    count: int = 60
    weight: float = 0.1
    holdouts: int = 3


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A feature plan to fit, and how to boost on it.

    Attributes:
        inputs: Descriptions of raw features; columns without one get their training range alone.
        steps: Stateless steps, as the plan will have them.
        references: Steps over stored rows. What they leave open is fitted: scales, lengths and outside_distance that
            are empty, and all parameters of a Gaussian process from where they start.
        outputs: Names of the model's features; empty for all inputs and all that the steps give.
        parameters: Instead of, or beside, the default `PARAMETERS` of LightGBM.
        max_rounds: Greatest number of trees.
        early_stopping_rounds: Trees without gain on the validation rows after which boosting ends.
        areas: For reference steps over places.
        levels: Of the prediction intervals; empty for none.
        unit: Of the target, for people.
        seed: Of splits, folds, clusters and blocks.
    """

    inputs: tuple[Input, ...] = ()
    steps: tuple[Step, ...] = ()
    references: tuple[AnyReferenceStep, ...] = ()
    outputs: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    max_rounds: int = 500
    early_stopping_rounds: int = 100
    areas: Areas | None = None
    levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.99)
    unit: str = ""
    seed: int = 0

    def boosting(self) -> dict[str, Any]:
        """All of LightGBM's parameters."""
        return PARAMETERS | self.parameters

    def without_references(self) -> "Recipe":
        """Its stateless part."""
        known = {*(step.output for step in self.steps), *(column.name for column in self.inputs)}
        outputs = tuple(name for name in self.outputs if name in known)
        return msgspec.structs.replace(self, references=(), areas=None, outputs=outputs)
