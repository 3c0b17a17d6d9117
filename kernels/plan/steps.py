"""The stateless steps of a feature plan, as data, and the base class of the steps over stored rows.

Each stateless step computes one new column, named by `output`, from one or two operands: names of the plan's inputs or
of earlier steps' outputs. Its arithmetic, NaN and infinities included, is in the function that
`kernels.plan.operations` names for it.
"""

import math
from typing import ClassVar

import msgspec

from kernels.plan.field_checks import PlanError, as_tuple, check_coordinates, check_finite, check_name


class StepBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    """The common part of stateless steps: the column to write, operands to read, and constants for the pool.

    Raises PlanError on construction when a field's value cannot be computed with.
    """

    operands: ClassVar[tuple[str, ...]]
    """The names of the one or two fields that hold operands, in the order in which the kernel takes them."""

    output: str

    def __post_init__(self) -> None:
        check_name(f"step ({self.op})", "output", self.output)
        for field in self.operands:
            check_name(self.title, field, getattr(self, field))
        self._check()

    @property
    def op(self) -> str:
        """The tag of this kind of step in JSON."""
        return str(self.__struct_config__.tag)

    @property
    def title(self) -> str:
        """Name of this step in messages."""
        return f"step {self.output!r} ({self.op})"

    def operand_names(self) -> tuple[str, ...]:
        """The names this step reads, in kernel order."""
        return tuple(getattr(self, field) for field in self.operands)

    def constants(self) -> tuple[float, ...]:
        """The step's constants, in the order in which its function takes them."""
        return ()

    def _check(self) -> None:
        """Raise PlanError if a parameter is out of its domain."""

    def _finite(self, *fields: str) -> None:
        for field in fields:
            value = check_finite(self.title, field, getattr(self, field))
            msgspec.structs.force_setattr(self, field, value)


class ReferenceStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    """The common part of steps over stored rows: a name that their columns begin with.

    Raises PlanError on construction when a field's value cannot be computed with.
    """

    tuples: ClassVar[tuple[str, ...]] = ()
    """Fields that hold tuples; JSON and callers may give lists."""

    output: str

    def __post_init__(self) -> None:
        check_name(f"reference step ({self.op})", "output", self.output)
        for field in self.tuples:
            msgspec.structs.force_setattr(self, field, as_tuple(getattr(self, field)))
        self._check()

    @property
    def op(self) -> str:
        """The tag of this kind of step in JSON."""
        return str(self.__struct_config__.tag)

    @property
    def title(self) -> str:
        """Name of this step in messages."""
        return f"reference step {self.output!r} ({self.op})"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the columns that the step can give, in the order in which its function writes them."""
        raise NotImplementedError

    def operand_names(self) -> tuple[str, ...]:
        """The inputs and outputs of stateless steps that are compared with the table's columns of the same name."""
        raise NotImplementedError

    def table_names(self) -> tuple[str, ...]:
        """The columns of the table that the step reads, its operands' among them."""
        raise NotImplementedError

    def reads(self) -> dict[str, tuple[str, ...]]:
        """For each output the operands that it depends on."""
        return dict.fromkeys(self.outputs, self.operand_names())

    def _check(self) -> None:
        """Raise PlanError if a parameter is out of its domain."""

    def unfitted(self) -> str | None:
        """The first field that is not fitted yet; None in every valid plan."""
        return None


class Ratio(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ratio"):
    """numerator / denominator."""

    operands = ("numerator", "denominator")

    numerator: str
    denominator: str


class Product(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="product"):
    """left * right."""

    operands = ("left", "right")

    left: str
    right: str


class Log(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="log"):
    """Natural logarithm of input + offset."""

    operands = ("input",)

    input: str
    offset: float = 0.0

    def constants(self) -> tuple[float, ...]:
        """The step's constants, in order: offset."""
        return (self.offset,)

    def _check(self) -> None:
        self._finite("offset")


class Clip(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="clip"):
    """The input, clipped to lower..upper; NaN stays NaN."""

    operands = ("input",)

    input: str
    lower: float
    upper: float

    def constants(self) -> tuple[float, ...]:
        """The step's constants, in order: lower, upper."""
        return (self.lower, self.upper)

    def _check(self) -> None:
        self._finite("lower", "upper")
        if self.lower > self.upper:
            raise PlanError(f"{self.title}: lower ({self.lower}) is above upper ({self.upper})")


class Standardise(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="standardise"):
    """(input - mean) / scale, in the input's own units."""

    operands = ("input",)

    input: str
    mean: float
    scale: float

    def constants(self) -> tuple[float, ...]:
        """The step's constants, in order: mean, scale."""
        return (self.mean, self.scale)

    def _check(self) -> None:
        self._finite("mean", "scale")
        if self.scale == 0:
            raise PlanError(f"{self.title}: scale must not be zero")


class Rotation(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="rotation"):
    """The x coordinate on axes turned by `degrees` anticlockwise: x cos + y sin."""

    operands = ("x", "y")

    x: str
    y: str
    degrees: float

    def constants(self) -> tuple[float, ...]:
        """(cosine, sine): taken here, so that both targets multiply by the very same numbers."""
        angle = math.radians(self.degrees)
        return (math.cos(angle), math.sin(angle))

    def _check(self) -> None:
        self._finite("degrees")


class PointDistance(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="point_distance"):
    """Great-circle distance in km to a fixed point, (latitude, longitude) in degrees."""

    operands = ("latitude", "longitude")

    latitude: str
    longitude: str
    point: tuple[float, float]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "point", as_tuple(self.point))
        super().__post_init__()

    def constants(self) -> tuple[float, ...]:
        """(latitude, longitude) in degrees."""
        return self.point

    def _check(self) -> None:
        point = check_coordinates(self.title, "point", self.point)
        msgspec.structs.force_setattr(self, "point", point)


class PolylineDistance(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="polyline_distance"):
    """Distance in km to the nearest point of a polyline, its vertices (latitude, longitude) in degrees."""

    operands = ("latitude", "longitude")

    latitude: str
    longitude: str
    vertices: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "vertices", tuple(as_tuple(vertex) for vertex in as_tuple(self.vertices)))
        super().__post_init__()

    def constants(self) -> tuple[float, ...]:
        """(latitude, longitude) of each vertex in turn, in degrees.

        Longitudes are unrolled: neighbours differ by at most 180, so that a segment over the antimeridian is the short
        one.
        """
        packed: list[float] = []
        previous = self.vertices[0][1]
        shift = 0.0
        for latitude, longitude in self.vertices:
            if longitude - previous > 180:
                shift -= 360.0
            elif longitude - previous < -180:
                shift += 360.0
            previous = longitude
            packed += (latitude, longitude + shift)
        return tuple(packed)

    def _check(self) -> None:
        if len(self.vertices) < 2:
            raise PlanError(f"{self.title}: vertices needs at least 2 points, got {len(self.vertices)}")
        vertices = (
            check_coordinates(self.title, f"vertices[{index}]", vertex) for index, vertex in enumerate(self.vertices)
        )
        msgspec.structs.force_setattr(self, "vertices", tuple(vertices))


Step = Ratio | Product | Log | Clip | Standardise | Rotation | PointDistance | PolylineDistance
