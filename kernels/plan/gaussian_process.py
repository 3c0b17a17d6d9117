"""Gaussian processes: as data, laid out for the kernels, and row-level functions, written once for both targets.

The mean of a process is a sum of covariances with the stored rows, times their weights:

    for each term: for each factor: squared = sum over its columns of (row - stored)^2, both scaled
                                    exponent += decay(shape, squared);  share *= polynomial(shape, squared)
                   sum += variance * weight * share * exp(-exponent)

All of it is float32 but for the sums over tiles of stored rows, which are float64: float32 has twice the lanes on a
CPU and, on most GPUs, 64 times the units. A column is centred and scaled in float64 before it is rounded.
"""

import math
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.plan.field_checks import PlanError, as_tuple, check_finite, check_name, check_names, check_positive
from kernels.plan.steps import ReferenceStep

Shape = Literal["exponential", "matern32", "squared_exponential"]


SHAPES: tuple[Shape, ...] = ("exponential", "matern32", "squared_exponential")
"""In the order of their numbers."""

MAX_FACTOR_COLUMNS = 64
"""Most columns of all factors of one Gaussian process together."""
MAX_TERMS = 8

EXPONENTIAL: Final = SHAPES.index("exponential")
MATERN32: Final = SHAPES.index("matern32")
SQUARED_EXPONENTIAL: Final = SHAPES.index("squared_exponential")

SCALES = {EXPONENTIAL: 1.0, MATERN32: math.sqrt(3.0), SQUARED_EXPONENTIAL: math.sqrt(0.5)}
"""Factors of scaled distances, applied beforehand so that the shapes need no constants."""

TILE_ROWS = 256
"""Stored rows that are summed in float32 before the sum goes into a float64: five buffers of them stay in a core's
first cache, and the rounding of a sum is that of 256 summands."""

FARTHEST = np.float32(1e9)
"""Bound to which scaled coordinates are clipped, so that no square overflows; exp(-1e9) is zero as exp(-inf) is."""

FAINTEST = np.float32(87.0)
"""A covariance of exp(-87) or less is taken for none, as exp(-88) is below float32's normal numbers. What it would be
multiplied with may have overflowed, and infinity times zero is NaN."""

ZERO: Final = np.float32(0.0)
ONE: Final = np.float32(1.0)


class Factor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One factor of a covariance term: a shape of the scaled distance over some columns.

    With r the Euclidean distance over `inputs`, each divided by its length: exponential exp(-r), matern32
    (1 + sqrt(3) r) exp(-sqrt(3) r), squared_exponential exp(-r^2 / 2) (C. E. Rasmussen and C. K. I. Williams, Gaussian
    Processes for Machine Learning, MIT Press 2006, section 4.2).
    """

    shape: Shape
    inputs: tuple[str, ...]
    lengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for field in ("inputs", "lengths"):
            msgspec.structs.force_setattr(self, field, as_tuple(getattr(self, field)))


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A summand of a covariance function: variance times the product of its factors."""

    variance: float
    factors: tuple[Factor, ...]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "factors", as_tuple(self.factors))


class GaussianProcess(ReferenceStep, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gaussian_process"):
    """The posterior mean of a Gaussian process: the stored rows' weights times the covariances with them, summed.

    Attributes:
        terms: Of the covariance function, 1 to 8, their factors' columns at most 64 together.
        constant: Variance of a constant function in the prior, in place of a fitted mean.
        noise: Variance of the target about the function.
        target: The table's column that was fitted to.
        weights: The table's column of weights, K^-1 y.
    """

    tuples = ("terms",)

    terms: tuple[Term, ...]
    constant: float = 1.0
    noise: float = 0.1
    target: str = "target"
    weights: str = "weights"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The mean alone."""
        return (self.output,)

    def operand_names(self) -> tuple[str, ...]:
        """The columns of all factors, each once, in order of first use."""
        return tuple(dict.fromkeys(name for term in self.terms for factor in term.factors for name in factor.inputs))

    def table_names(self) -> tuple[str, ...]:
        """Operands and weights."""
        return (*self.operand_names(), self.weights)

    def unfitted(self) -> str | None:
        """Lengths that are still to be fitted."""
        for index, term in enumerate(self.terms):
            for number, factor in enumerate(term.factors):
                if not factor.lengths:
                    return f"terms[{index}].factors[{number}].lengths"
        return None

    def _check(self) -> None:
        check_name(self.title, "target", self.target)
        check_name(self.title, "weights", self.weights)
        for field in ("constant", "noise"):
            value = check_finite(self.title, field, getattr(self, field))
            if value < 0:
                raise PlanError(f"{self.title}: {field} must be at least zero, got {value}")
            msgspec.structs.force_setattr(self, field, value)
        if not 1 <= len(self.terms) <= MAX_TERMS:
            raise PlanError(f"{self.title}: terms must be 1 to {MAX_TERMS}, got {len(self.terms)}")
        for index, term in enumerate(self.terms):
            self._check_term(f"terms[{index}]", term)
        columns = sum(len(factor.inputs) for term in self.terms for factor in term.factors)
        if columns > MAX_FACTOR_COLUMNS:
            raise PlanError(f"{self.title}: the factors have {columns} columns, at most {MAX_FACTOR_COLUMNS} can be")

    def _check_term(self, place: str, term: Term) -> None:
        variance = check_finite(self.title, f"{place}.variance", term.variance)
        msgspec.structs.force_setattr(term, "variance", variance)
        if variance <= 0:
            raise PlanError(f"{self.title}: {place}.variance must be above zero, got {variance}")
        if not term.factors:
            raise PlanError(f"{self.title}: {place}.factors is empty")
        for index, factor in enumerate(term.factors):
            owner = f"{place}.factors[{index}]"
            if factor.shape not in SHAPES:
                raise PlanError(f"{self.title}: {owner}.shape must be one of {', '.join(SHAPES)}")
            check_names(self.title, f"{owner}.inputs", factor.inputs, 1, MAX_FACTOR_COLUMNS)
            lengths = check_positive(self.title, f"{owner}.lengths", factor.lengths, len(factor.inputs))
            msgspec.structs.force_setattr(factor, "lengths", lengths)


class ExpansionArrays(NamedTuple):
    """A `GaussianProcess` step over N stored rows, packed. All arrays are C-contiguous and read-only.

    Attributes:
        points: int32[P], columns of the batch's points, one for each column of each factor in turn.
        centres: float64[P], subtracted from them.
        scales: float64[P], multiplied with them.
        stored: float32[P, N], the stored rows' columns, centred and scaled.
        weights: float32[N].
        shapes: int32[F], of the factors.
        factors: int32[F + 1], the first column of each factor.
        terms: int32[T + 1], the first factor of each term.
        variances: float64[T].
        offset: float64[1], added to the sum: the constant's part.
        columns: int32[1], where the mean goes among the model's features.
    """

    points: NDArray[np.int32]
    centres: NDArray[np.float64]
    scales: NDArray[np.float64]
    stored: NDArray[np.float32]
    weights: NDArray[np.float32]
    shapes: NDArray[np.int32]
    factors: NDArray[np.int32]
    terms: NDArray[np.int32]
    variances: NDArray[np.float64]
    offset: NDArray[np.float64]
    columns: NDArray[np.int32]


def pack_expansion(
    step: GaussianProcess,
    table: dict[str, NDArray[np.float64]],
    points: dict[str, int],
    features: dict[str, int],
) -> ExpansionArrays:
    """Pack a Gaussian process into arrays for the kernels.

    Args:
        step: The step.
        table: The table's columns, float64[N], by name.
        points: By name, the column in the points float64[B, P] of each of the step's inputs.
        features: By name, the column of each of the model's features.
    """
    factors = [factor for term in step.terms for factor in term.factors]
    shapes = [SHAPES.index(factor.shape) for factor in factors]
    names = [name for factor in factors for name in factor.inputs]
    centres = np.array([np.median(table[name]) for name in names])
    scales = np.array(
        [SCALES[shape] / length for shape, factor in zip(shapes, factors, strict=True) for length in factor.lengths]
    )
    stored = np.stack([table[name] for name in names])
    weights = table[step.weights]
    arrays = ExpansionArrays(
        points=np.array([points[name] for name in names], dtype=np.int32),
        centres=centres,
        scales=scales,
        stored=((stored - centres[:, None]) * scales[:, None]).clip(-FARTHEST, FARTHEST).astype(np.float32),
        weights=weights.astype(np.float32),
        shapes=np.array(shapes, dtype=np.int32),
        factors=np.cumsum([0, *(len(factor.inputs) for factor in factors)], dtype=np.int32),
        terms=np.cumsum([0, *(len(term.factors) for term in step.terms)], dtype=np.int32),
        variances=np.array([term.variance for term in step.terms]),
        offset=np.array([step.constant * weights.sum()]),
        columns=np.array([features.get(name, -1) for name in step.outputs], dtype=np.int32),
    )
    for array in arrays:
        array.flags.writeable = False
    return arrays


@njit(cache=True, fastmath=True)
def decay(shape, squared):
    """The exponent of a factor, float32, from its squared scaled distance, float32."""
    return squared if shape == SQUARED_EXPONENTIAL else math.sqrt(squared)


@njit(cache=True, fastmath=True)
def polynomial(shape, exponent):
    """The polynomial of a factor that multiplies the exponential, float32, from its own `decay`."""
    return ONE + exponent if shape == MATERN32 else ONE
