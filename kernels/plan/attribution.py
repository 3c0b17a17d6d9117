"""What a model's features are made of: how their contributions are shared out among the raw features.

The rule: the contribution of a derived feature is split equally among the raw features that it is made of, each counted
once. Raw features that only say something together count as one, the *place*: those behind the coordinates of a
rotation, of a distance to a point or line, and of a search for near rows.

Operands of a ratio or product are symmetric, as neither says anything without the other, and players that are symmetric
have equal Shapley values. An equal split needs no reference rows, is the same for all rows and so keeps sums, and does
not depend on how a formula is divided into steps.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.plan.neighbours import Neighbours
from kernels.plan.plan import Plan
from kernels.plan.steps import PointDistance, PolylineDistance, Rotation

PLACE = "place"
"""Name of the group of the raw features that are a place."""


class FeatureGroup(NamedTuple):
    """One or more features that a contribution belongs to.

    Attributes:
        name: The feature's; of several a name of their own.
        features: Their names.
    """

    name: str
    features: tuple[str, ...]


class Attribution(NamedTuple):
    """The way from the features of a model to G groups of raw features.

    Attributes:
        groups: Each raw feature is in one, in the order of the plan's inputs.
        shares: float64[O, G], what part of a model feature's contribution each group gets; rows add up to 1.
    """

    groups: tuple[FeatureGroup, ...]
    shares: NDArray[np.float64]


def attribute(plan: Plan) -> Attribution:
    """The attribution of a plan's outputs."""
    made_of = _sources(plan)
    place = _place(plan, made_of)
    groups: dict[frozenset[str], FeatureGroup] = {}
    group_of: dict[str, int] = {}
    for name in plan.input_names:
        members = place if name in place else frozenset((name,))
        if members not in groups:
            features = tuple(other for other in plan.input_names if other in members)
            groups[members] = FeatureGroup(_name(plan, features), features)
        group_of[name] = [*groups].index(members)
    shares = np.zeros((len(plan.outputs), len(groups)))
    for index, output in enumerate(plan.outputs):
        own = {group_of[name] for name in made_of[output]}
        shares[index, list(own)] = 1 / len(own)
    return Attribution(tuple(groups.values()), shares)


def _sources(plan: Plan) -> dict[str, frozenset[str]]:
    """The raw features that each column is made of."""
    made_of = {name: frozenset((name,)) for name in plan.input_names}

    def union(names: tuple[str, ...]) -> frozenset[str]:
        return frozenset().union(*(made_of[name] for name in names))

    for step in plan.steps:
        made_of[step.output] = union(step.operand_names())
    for step in plan.reference_steps:
        made_of |= {output: union(names) for output, names in step.reads().items()}
    return made_of


def _place(plan: Plan, made_of: dict[str, frozenset[str]]) -> frozenset[str]:
    """The raw features behind coordinates."""
    coordinates = [
        name
        for step in plan.steps
        if isinstance(step, Rotation | PointDistance | PolylineDistance)
        for name in step.operand_names()
    ]
    coordinates += [name for step in plan.reference_steps if isinstance(step, Neighbours) for name in step.inputs]
    return frozenset().union(*(made_of[name] for name in coordinates))


def _name(plan: Plan, features: tuple[str, ...]) -> str:
    if len(features) == 1:
        return features[0]
    return " and ".join(features) if PLACE in plan.input_names else PLACE
