"""The reference steps of a feature plan, as data: columns computed from rows that are stored with the model.

A plan with such steps comes with a table, float64[N, C], of the rows that the model was fitted on. Its columns are
what the steps compare a row with (named as the plan's inputs or steps' outputs), the target, and fitted weights. What
a step computes is written in `kernels.plan.neighbours` and `kernels.plan.gaussian_process`.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.plan.reference_step import ReferenceStep
from kernels.plan.steps import PlanError, as_tuple, check_finite, check_name

MAX_ROWS = 50_000
MAX_COLUMNS = 1_000
MAX_STEPS = 32
"""Each has its own index of the stored rows, which takes time to build."""
MAX_COORDINATES = 8
MAX_ATTRIBUTES = 8
MAX_REGRESSIONS = 8
LEAST_RIDGE = 1e-6
"""Below it, attributes that depend on one another would have slopes made of rounding errors."""
LEAST_SOFTENING = 1e-9
MAX_FACTOR_COLUMNS = 64
"""Of all factors of one Gaussian process together."""
MAX_TERMS = 8

Shape = Literal["exponential", "matern32", "squared_exponential"]


class Regression(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ridge regression of the target on attributes of the nearest rows.

    Near rows weigh more, by the bisquare function of distance over the last neighbour's distance (W. S. Cleveland,
    Robust Locally Weighted Regression, JASA 74, 1979).

    Attributes:
        output: What its columns are called by: `local`, its value at the row, `intercept`, its value at the table's
            mean attributes, and `slope` of each scaled attribute.
        inputs: 1 to 8 attributes.
        scales: What each is divided by, so that one ridge fits all.
        count: Of neighbours, at most 64.
        ridge: Added to the diagonal of the weighted covariance of the scaled attributes.
    """

    output: str
    inputs: tuple[str, ...]
    scales: tuple[float, ...] = ()
    count: int
    ridge: float = 0.1

    def __post_init__(self) -> None:
        for field in ("inputs", "scales"):
            msgspec.structs.force_setattr(self, field, as_tuple(getattr(self, field)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The ends of its columns' names."""
        slopes = (f"{self.output}_slope_{name}" for name in self.inputs)
        return (f"{self.output}_local", f"{self.output}_intercept", *slopes)


class Neighbours(ReferenceStep, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="neighbours"):
    """What the nearest stored rows say: statistics of their target, and how the row differs from them.

    Distance is Euclidean over `inputs`, each divided by its scale; equally near rows are taken in the table's order.
    A row with a coordinate that is not finite gives NaN everywhere.

    Attributes:
        inputs: 1 to 8 coordinates.
        scales: Of each coordinate, what counts as the distance one.
        target: The table's column that is averaged and regressed on.
        counts: Of neighbours, ascending, at most 64; for each there are columns `mean`, `weighted_mean` (by the inverse
            of distance + softening), `deviation`, `median`, and `distance` of the last neighbour.
        softening: Added to distances before they are inverted or compared with the last neighbour's, so that rows at no
            distance do not count alone.
        contrasts: 0 to 8 attributes; for each count below, `contrast` is the row's own value less its neighbours' mean.
        contrast_counts: Of neighbours, ascending.
        regressions: Local regressions.
        outside_distance: A row farther from its nearest stored row than this is outside what the model has seen.
    """

    tuples = ("inputs", "scales", "counts", "contrasts", "contrast_counts", "regressions")

    inputs: tuple[str, ...]
    scales: tuple[float, ...] = ()
    target: str = "target"
    counts: tuple[int, ...] = ()
    softening: float = 0.001
    contrasts: tuple[str, ...] = ()
    contrast_counts: tuple[int, ...] = ()
    regressions: tuple[Regression, ...] = ()
    outside_distance: float | None = None

    @property
    def nearest(self) -> str:
        """The name of the column that is the distance to the nearest stored row."""
        return f"{self.output}_nearest"

    @property
    def searched(self) -> int:
        """How many neighbours are looked for."""
        return max((*self.counts, *self.contrast_counts, *(regression.count for regression in self.regressions), 1))

    @property
    def outputs(self) -> tuple[str, ...]:
        """`nearest`, the statistics by count, the contrasts by count, the regressions."""
        statistics = ("mean", "weighted_mean", "deviation", "median", "distance")
        return (
            self.nearest,
            *(f"{self.output}_{name}_{count}" for count in self.counts for name in statistics),
            *(f"{self.output}_contrast_{name}_{count}" for count in self.contrast_counts for name in self.contrasts),
            *(f"{self.output}_{name}" for regression in self.regressions for name in regression.outputs),
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """The columns of contrasts and regressions, each once."""
        regressed = (name for regression in self.regressions for name in regression.inputs)
        return tuple(dict.fromkeys((*self.contrasts, *regressed)))

    def operand_names(self) -> tuple[str, ...]:
        """Coordinates first, then attributes."""
        return tuple(dict.fromkeys((*self.inputs, *self.attributes)))

    def table_names(self) -> tuple[str, ...]:
        """Operands and target."""
        return (*self.operand_names(), self.target)

    def unfitted(self) -> str | None:
        """Scales that are still to be fitted."""
        if not self.scales:
            return "scales"
        open_ones = (index for index, regression in enumerate(self.regressions) if not regression.scales)
        return next((f"regressions[{index}].scales" for index in open_ones), None)

    def _check(self) -> None:
        self._names("inputs", 1, MAX_COORDINATES)
        self._positive("scales", len(self.inputs))
        check_name(self.title, "target", self.target)
        self._counts("counts")
        self._counts("contrast_counts")
        self._names("contrasts", 0, MAX_ATTRIBUTES)
        if bool(self.contrasts) != bool(self.contrast_counts):
            raise PlanError(f"{self.title}: contrasts and contrast_counts need each other")
        for index, regression in enumerate(self.regressions):
            self._check_regression(f"regressions[{index}]", regression)
        if len(self.regressions) > MAX_REGRESSIONS:
            raise PlanError(f"{self.title}: regressions must be at most {MAX_REGRESSIONS}")
        names = [regression.output for regression in self.regressions]
        if len(set(names)) != len(names):
            raise PlanError(f"{self.title}: two regressions have the same output")
        if len(self.attributes) > MAX_ATTRIBUTES:
            raise PlanError(f"{self.title}: contrasts and regressions have more than {MAX_ATTRIBUTES} attributes")
        for field in ("softening", "outside_distance"):
            if getattr(self, field) is None:
                continue
            value = check_finite(self.title, field, getattr(self, field))
            least = 0.0 if field == "outside_distance" else LEAST_SOFTENING
            if value < least:
                raise PlanError(f"{self.title}: {field} must be at least {least}, got {value}")
            msgspec.structs.force_setattr(self, field, value)

    def _check_regression(self, place: str, regression: Regression) -> None:
        check_name(self.title, f"{place}.output", regression.output)
        self._check_names(f"{place}.inputs", regression.inputs, 1, MAX_ATTRIBUTES)
        scales = self._check_positive(f"{place}.scales", regression.scales, len(regression.inputs))
        msgspec.structs.force_setattr(regression, "scales", scales)
        ridge = check_finite(self.title, f"{place}.ridge", regression.ridge)
        msgspec.structs.force_setattr(regression, "ridge", ridge)
        if ridge < LEAST_RIDGE:
            raise PlanError(f"{self.title}: {place}.ridge must be at least {LEAST_RIDGE}, got {ridge}")
        self._check_count(f"{place}.count", regression.count)


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
            self._check_names(f"{owner}.inputs", factor.inputs, 1, MAX_FACTOR_COLUMNS)
            lengths = self._check_positive(f"{owner}.lengths", factor.lengths, len(factor.inputs))
            msgspec.structs.force_setattr(factor, "lengths", lengths)


SHAPES: tuple[Shape, ...] = ("exponential", "matern32", "squared_exponential")
"""In the order of their numbers in `kernels.plan.gaussian_process`."""

AnyReferenceStep = Neighbours | GaussianProcess


class References(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The stored table and the steps over it. The values are in a file of their own (`references.npy`).

    Attributes:
        rows: N, at most 50,000.
        columns: The table's C columns, in order, at most 1,000.
        steps: At most 32. Each may read inputs and outputs of the plan's stateless steps, not of one another.

    Raises PlanError when a step reads a column that the table has not.
    """

    rows: int
    columns: tuple[str, ...]
    steps: tuple[AnyReferenceStep, ...]

    def __post_init__(self) -> None:
        for field in ("columns", "steps"):
            msgspec.structs.force_setattr(self, field, as_tuple(getattr(self, field)))
        if not 1 <= self.rows <= MAX_ROWS:
            raise PlanError(f"references: rows must be 1 to {MAX_ROWS}, got {self.rows!r}")
        for field, most in (("columns", MAX_COLUMNS), ("steps", MAX_STEPS)):
            if (count := len(getattr(self, field))) > most:
                raise PlanError(f"references: {field} are {count}, and at most {most} are read")
        for index, name in enumerate(self.columns):
            check_name("references", f"columns[{index}]", name)
            if name in self.columns[:index]:
                raise PlanError(f"references: column {name!r} is named twice")
        if not self.steps:
            raise PlanError("references: steps is empty")
        for step in self.steps:
            if (field := step.unfitted()) is not None:
                raise PlanError(f"{step.title}: {field} is empty: the step has not been fitted")
            for name in step.table_names():
                if name not in self.columns:
                    raise PlanError(f"{step.title}: the table has no column {name!r}")
            if isinstance(step, Neighbours) and step.searched > self.rows:
                raise PlanError(f"{step.title}: {step.searched} neighbours of {self.rows} rows cannot be found")

    def check_table(self, table: NDArray[np.float64]) -> None:
        """Raise PlanError unless the table is finite float64[rows, columns]."""
        shape = (self.rows, len(self.columns))
        if table.dtype != np.float64 or table.shape != shape:
            raise PlanError(f"references: the table must be float64{list(shape)}, got {table.dtype}{list(table.shape)}")
        if not np.isfinite(table).all():
            row, column = np.argwhere(~np.isfinite(table))[0]
            raise PlanError(f"references: row {row}, column {self.columns[column]!r} of the table is not finite")


def reference_names(steps: Sequence[AnyReferenceStep]) -> tuple[str, ...]:
    """Operands of all steps, each once, in order of first use."""
    return tuple(dict.fromkeys(name for step in steps for name in step.operand_names()))
