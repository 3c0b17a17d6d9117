"""A program's reference steps as a GPU takes them: a search for neighbours and a Gaussian process to a launch."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from kernels.plan.gaussian_process import ExpansionArrays
from kernels.plan.neighbours import NeighbourArrays
from kernels.plan.program import Program

NO_NEIGHBOURS = NeighbourArrays(
    points=np.zeros(0, dtype=np.int32),
    scales=np.zeros(0),
    coordinates=np.zeros((0, 0)),
    order=np.zeros(0, dtype=np.int32),
    low=np.zeros((0, 0)),
    high=np.zeros((0, 0)),
    centres=np.zeros(0),
    attributes=np.zeros((0, 0)),
    target=np.zeros(0),
    counts=np.zeros(0, dtype=np.int32),
    contrasts=np.zeros(0, dtype=np.int32),
    contrast_counts=np.zeros(0, dtype=np.int32),
    regressions=np.zeros((0, 3), dtype=np.int32),
    regressors=np.zeros(0, dtype=np.int32),
    regressor_scales=np.zeros(0),
    numbers=np.zeros(0),
    columns=np.zeros(0, dtype=np.int32),
    capacity=np.zeros(0, dtype=np.int32),
)
"""Stands for a step that a launch does not have, as does `NO_EXPANSION`."""

NO_EXPANSION = ExpansionArrays(
    points=np.zeros(0, dtype=np.int32),
    centres=np.zeros(0),
    scales=np.zeros(0),
    stored=np.zeros((0, 0), dtype=np.float32),
    weights=np.zeros(0, dtype=np.float32),
    shapes=np.zeros(0, dtype=np.int32),
    factors=np.zeros(0, dtype=np.int32),
    terms=np.zeros(0, dtype=np.int32),
    variances=np.zeros(0),
    offset=np.zeros(0),
    columns=np.zeros(0, dtype=np.int32),
)


def pairs(program: Program) -> Iterator[tuple[NeighbourArrays, ExpansionArrays]]:
    """The program's reference steps by launch: a search and a Gaussian process each, without steps of no feature."""
    wanted = [arrays for arrays in program.references if (arrays.columns >= 0).any()]
    searches = [arrays for arrays in wanted if isinstance(arrays, NeighbourArrays)]
    means = [arrays for arrays in wanted if isinstance(arrays, ExpansionArrays)]
    for near, mean in zip_longest(searches, means):
        yield near or NO_NEIGHBOURS, mean or NO_EXPANSION


def searched_whole(arrays: NeighbourArrays) -> Iterator[Any]:
    """The arrays that a search without boxes takes, in the kernel's order."""
    return (array for field, array in zip(arrays._fields, arrays, strict=True) if field not in ("low", "high"))
