"""The search for the nearest stored rows, as data, and the stored rows laid out for it.

The row-level functions are in `kernels.plan.nearest`.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.plan.blocks import BLOCK_ROWS, block_order
from kernels.plan.field_checks import (
    PlanError,
    as_tuple,
    check_count,
    check_finite,
    check_name,
    check_names,
    check_positive,
)
from kernels.plan.steps import ReferenceStep

MAX_NEIGHBOURS = 64
"""Most neighbours of one search: a CUDA thread keeps its row's in local memory."""
MAX_COORDINATES = 8
MAX_ATTRIBUTES = 8
MAX_REGRESSIONS = 8
LEAST_RIDGE = 1e-6
"""Below it, attributes that depend on one another would have slopes made of rounding errors."""
LEAST_SOFTENING = 1e-9
FARTHEST = 1e18
"""Bound to which scaled coordinates are clipped, so that no squared distance overflows a float32."""


class Regression(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ridge regression of the target on attributes of the nearest rows.

    Near rows weigh more, by the bisquare function of distance over the last neighbour's distance (W. S. Cleveland,
    Robust Locally Weighted Regression, JASA 74, 1979).

    Attributes:
        output: Prefix of its columns: `local`, its value at the row, `intercept`, its value at the table's
            mean attributes, and `slope` of each scaled attribute.
        inputs: 1 to 8 attributes.
        scales: Divisor of each, so that one ridge fits all.
        count: Number of neighbours, at most 64.
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
    """A search for the nearest stored rows: statistics of their target, and differences of the row from them.

    Distance is Euclidean over `inputs`, each divided by its scale; equally near rows are taken in the table's order.
    A row with a coordinate that is not finite gives NaN everywhere.

    Attributes:
        inputs: 1 to 8 coordinates.
        scales: Divisor of each coordinate: the difference that is a distance of one.
        target: The table's column that is averaged and regressed on.
        counts: Numbers of neighbours, ascending, at most 64; for each there are columns `mean`, `weighted_mean` (by the
            inverse of distance + softening), `deviation`, `median`, and `distance` of the last neighbour.
        softening: Added to distances before they are inverted or compared with the last neighbour's, so that rows at no
            distance do not count alone.
        contrasts: 0 to 8 attributes; for each count below, `contrast` is the row's own value less its neighbours' mean.
        contrast_counts: Numbers of neighbours, ascending.
        regressions: Local regressions.
        outside_distance: Distance to the nearest stored row beyond which a row is unlike all training rows.
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
        """Number of neighbours to search for."""
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

    def reads(self) -> dict[str, tuple[str, ...]]:
        """The coordinates, which say which rows are near; an own value only where it is compared or put in."""
        found = dict.fromkeys(self.outputs, self.inputs)
        for name in self.contrasts:
            found |= {f"{self.output}_contrast_{name}_{count}": (*self.inputs, name) for count in self.contrast_counts}
        for regression in self.regressions:
            found[f"{self.output}_{regression.outputs[0]}"] = (*self.inputs, *regression.inputs)
        return found

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
        check_names(self.title, "inputs", self.inputs, 1, MAX_COORDINATES)
        scales = check_positive(self.title, "scales", self.scales, len(self.inputs))
        msgspec.structs.force_setattr(self, "scales", scales)
        check_name(self.title, "target", self.target)
        self._counts("counts")
        self._counts("contrast_counts")
        check_names(self.title, "contrasts", self.contrasts, 0, MAX_ATTRIBUTES)
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
        check_names(self.title, f"{place}.inputs", regression.inputs, 1, MAX_ATTRIBUTES)
        scales = check_positive(self.title, f"{place}.scales", regression.scales, len(regression.inputs))
        msgspec.structs.force_setattr(regression, "scales", scales)
        ridge = check_finite(self.title, f"{place}.ridge", regression.ridge)
        msgspec.structs.force_setattr(regression, "ridge", ridge)
        if ridge < LEAST_RIDGE:
            raise PlanError(f"{self.title}: {place}.ridge must be at least {LEAST_RIDGE}, got {ridge}")
        check_count(self.title, f"{place}.count", regression.count, MAX_NEIGHBOURS)

    def _counts(self, field: str) -> None:
        counts = getattr(self, field)
        for index, count in enumerate(counts):
            check_count(self.title, f"{field}[{index}]", count, MAX_NEIGHBOURS)
            if index and count <= counts[index - 1]:
                raise PlanError(f"{self.title}: {field} must ascend, got {counts!r}")


class NeighbourArrays(NamedTuple):
    """A `Neighbours` step over N stored rows, packed. All arrays are C-contiguous and read-only.

    Attributes:
        points: int32[D + Z], columns of the batch's points that hold the row's coordinates, then its attributes.
        scales: float64[D].
        coordinates: float64[D, N], scaled, in the order of `order`.
        order: int32[N], index in the table of each.
        low: float64[D, ceil(N / 64)], the least coordinate in each block of 64.
        high: float64[D, ceil(N / 64)], the greatest.
        centres: float64[Z], the attributes' means in the table.
        attributes: float64[N, Z], less the centres, in the table's order.
        target: float64[N], in the table's order.
        counts: int32, of neighbours, for statistics.
        contrasts: int32, columns of `attributes`.
        contrast_counts: int32, of neighbours, for contrasts.
        regressions: int32[R, 3], of each regression the count of neighbours, and its first and one past its last
            column in the next two.
        regressors: int32, columns of `attributes`.
        regressor_scales: float64, what each is divided by.
        numbers: float64[1 + R], softening, and the regressions' ridges.
        columns: int32[Q], where the step's outputs go among the model's features; -1 for one that is no feature.
        capacity: int32[1], neighbours to look for.
    """

    points: NDArray[np.int32]
    scales: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    order: NDArray[np.int32]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    centres: NDArray[np.float64]
    attributes: NDArray[np.float64]
    target: NDArray[np.float64]
    counts: NDArray[np.int32]
    contrasts: NDArray[np.int32]
    contrast_counts: NDArray[np.int32]
    regressions: NDArray[np.int32]
    regressors: NDArray[np.int32]
    regressor_scales: NDArray[np.float64]
    numbers: NDArray[np.float64]
    columns: NDArray[np.int32]
    capacity: NDArray[np.int32]


def pack_neighbours(
    step: Neighbours,
    table: dict[str, NDArray[np.float64]],
    points: dict[str, int],
    features: dict[str, int],
) -> NeighbourArrays:
    """Pack a neighbour step into arrays for the kernels.

    Args:
        step: The step.
        table: The table's columns, float64[N], by name.
        points: By name, the column in the points float64[B, P] of each of the step's inputs.
        features: By name, the column of each of the model's features.
    """
    scales = np.array(step.scales)
    with np.errstate(over="ignore"):
        coordinates = np.stack([table[name] for name in step.inputs], axis=1) / scales
    coordinates = coordinates.clip(-FARTHEST, FARTHEST)
    order = block_order(coordinates, BLOCK_ROWS)
    ordered = coordinates[order]
    starts = np.arange(0, len(order), BLOCK_ROWS)
    attributes = np.empty((len(order), len(step.attributes)))
    for column, name in enumerate(step.attributes):
        attributes[:, column] = table[name]
    centres = attributes.mean(axis=0)
    place = {name: column for column, name in enumerate(step.attributes)}
    ends = np.cumsum([0, *(len(regression.inputs) for regression in step.regressions)])
    regressions = [
        (regression.count, ends[index], ends[index + 1]) for index, regression in enumerate(step.regressions)
    ]
    arrays = NeighbourArrays(
        points=np.array([points[name] for name in (*step.inputs, *step.attributes)], dtype=np.int32),
        scales=scales,
        coordinates=np.ascontiguousarray(ordered.T),
        order=order.astype(np.int32),
        low=np.ascontiguousarray(np.minimum.reduceat(ordered, starts).T),
        high=np.ascontiguousarray(np.maximum.reduceat(ordered, starts).T),
        centres=centres,
        attributes=attributes - centres,
        target=np.array(table[step.target]),
        counts=np.array(step.counts, dtype=np.int32),
        contrasts=np.array([place[name] for name in step.contrasts], dtype=np.int32),
        contrast_counts=np.array(step.contrast_counts, dtype=np.int32),
        regressions=np.array(regressions, dtype=np.int32).reshape(-1, 3),
        regressors=np.array([place[name] for one in step.regressions for name in one.inputs], dtype=np.int32),
        regressor_scales=np.array([scale for one in step.regressions for scale in one.scales], dtype=np.float64),
        numbers=np.array([step.softening, *(regression.ridge for regression in step.regressions)]),
        columns=np.array([features.get(name, -1) for name in step.outputs], dtype=np.int32),
        capacity=np.array([step.searched], dtype=np.int32),
    )
    for array in arrays:
        array.flags.writeable = False
    return arrays
