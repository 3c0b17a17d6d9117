"""Recipes: a feature plan without its fitted parts, and how to boost on it."""

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
"""Default parameters of LightGBM. One thread and fixed seeds make a run repeatable bit for bit."""


class Areas(msgspec.Struct, frozen=True, kw_only=True):
    """Areas of the rows, for training and testing on areas that look unseen.

    The fit rows are clustered by place. Each is added once more, with its reference features computed as if its own
    cluster had no stored rows: so the forest learns how far to trust references that are not near.

    Attributes:
        inputs: Coordinates: names of inputs.
        degrees: Whether the coordinates are latitude and longitude in degrees, in this order.
        count: Number of clusters.
        weight: Weight of the added rows, where the others have 1; 0 adds none.
        holdouts: Number of times that a fifth of the areas is held out to measure the error in unseen areas.
    """

    inputs: tuple[str, ...]
    degrees: bool = False
    count: int = 60
    weight: float = 0.1
    holdouts: int = 3


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A feature plan to fit, and how to boost on it.

    Attributes:
        inputs: Descriptions of raw features; a column without one gets its training range only.
        steps: Stateless steps of the plan.
        references: Steps over stored rows. Empty scales, lengths and outside_distance are fitted, and all parameters of
            a Gaussian process, from the given start.
        outputs: Names of the model's features; empty for all inputs and all outputs of the steps.
        parameters: LightGBM's parameters that replace or extend `PARAMETERS`.
        max_rounds: Greatest number of trees.
        early_stopping_rounds: Number of trees without gain on the validation rows after which boosting ends.
        areas: Areas of the rows, for reference steps over places.
        levels: Levels of the prediction intervals; empty for none.
        unit: Unit of the target, for people.
        seed: Seed of splits, folds and clusters.
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
        """The stateless part of the recipe."""
        known = {*(step.output for step in self.steps), *(column.name for column in self.inputs)}
        outputs = tuple(name for name in self.outputs if name in known)
        return msgspec.structs.replace(self, references=(), areas=None, outputs=outputs)
