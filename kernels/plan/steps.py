"""The steps of a feature plan, as data.

Each step computes one new column, named by `output`, from one or two operands: names of the plan's inputs or of earlier
steps' outputs. What a step computes, its behaviour on NaN and infinities included, is written in `features`.
"""

import math
from typing import ClassVar

import msgspec

from kernels.plan import opcodes


class PlanError(ValueError):
    """A feature plan is not valid; the message names the step (or input) and the field."""


class StepBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    """What all steps share: a column to write, operands to read, and constants for the pool.

    Raises PlanError on construction when a field's value cannot be computed with.
    """

    opcode: ClassVar[int]
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
        """How messages name this step."""
        return f"step {self.output!r} ({self.op})"

    def operand_names(self) -> tuple[str, ...]:
        """The names this step reads, in kernel order."""
        return tuple(getattr(self, field) for field in self.operands)

    def constants(self) -> tuple[float, ...]:
        """The step's stretch of the constants pool, float64, in the layout its function in `features` reads."""
        return ()

    def _check(self) -> None:
        """Raise PlanError if a parameter is out of its domain."""

    def _finite(self, *fields: str) -> None:
        for field in fields:
            value = check_finite(self.title, field, getattr(self, field))
            msgspec.structs.force_setattr(self, field, value)


class Ratio(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ratio"):
    """numerator / denominator."""

    opcode = opcodes.RATIO
    operands = ("numerator", "denominator")

    numerator: str
    denominator: str


class Product(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="product"):
    """left * right."""

    opcode = opcodes.PRODUCT
    operands = ("left", "right")

    left: str
    right: str


class Log(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="log"):
    """Natural logarithm of input + offset."""

    opcode = opcodes.LOG
    operands = ("input",)

    input: str
    offset: float = 0.0

    def constants(self) -> tuple[float, ...]:
        """(offset,)."""
        return (self.offset,)

    def _check(self) -> None:
        self._finite("offset")


class Clip(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="clip"):
    """The input, held within lower..upper; NaN stays NaN."""

    opcode = opcodes.CLIP
    operands = ("input",)

    input: str
    lower: float
    upper: float

    def constants(self) -> tuple[float, ...]:
        """(lower, upper)."""
        return (self.lower, self.upper)

    def _check(self) -> None:
        self._finite("lower", "upper")
        if self.lower > self.upper:
            raise PlanError(f"{self.title}: lower ({self.lower}) is above upper ({self.upper})")


class Standardise(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="standardise"):
    """(input - mean) / scale, in the input's own units."""

    opcode = opcodes.STANDARDISE
    operands = ("input",)

    input: str
    mean: float
    scale: float

    def constants(self) -> tuple[float, ...]:
        """(mean, scale)."""
        return (self.mean, self.scale)

    def _check(self) -> None:
        self._finite("mean", "scale")
        if self.scale == 0:
            raise PlanError(f"{self.title}: scale must not be zero")


class Rotation(StepBase, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="rotation"):
    """The x coordinate on axes turned by `degrees` anticlockwise: x cos + y sin."""

    opcode = opcodes.ROTATION
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

    opcode = opcodes.POINT_DISTANCE
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

    opcode = opcodes.POLYLINE_DISTANCE
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


def as_tuple(value: object) -> tuple:
    """A list as a tuple, so that a plan written in Python equals the same plan read from JSON."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def check_name(owner: str, field: str, name: object) -> None:
    """Raise PlanError unless `name` is a non-blank string."""
    if not isinstance(name, str) or not name.strip():
        raise PlanError(f"{owner}: {field} must be a non-blank name, got {name!r}")


def check_finite(owner: str, field: str, value: object) -> float:
    """`value` as a float, zeros without a sign, so that equal plans are the same bytes.

    Raises PlanError unless it is a number that a float64 holds.
    """
    # The bound and not math.isfinite, which raises on an int too large for a float.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= 1.7976931348623157e308:
        raise PlanError(f"{owner}: {field} must be a finite number, got {value!r}")
    return float(value) + 0.0


def check_coordinates(owner: str, field: str, point: tuple) -> tuple[float, float]:
    """`point` as floats. Raises PlanError unless it is (latitude in -90..90, longitude in -180..180).

    The commonest mistake is the pair the wrong way round; most such pairs show in the latitude's range.
    """
    if len(point) != 2:
        raise PlanError(f"{owner}: {field} must be (latitude, longitude), got {point!r}")
    latitude = check_finite(owner, f"{field} latitude", point[0])
    longitude = check_finite(owner, f"{field} longitude", point[1])
    for name, value, bound in (("latitude", latitude, 90), ("longitude", longitude, 180)):
        if abs(value) > bound:
            raise PlanError(f"{owner}: {field} {name} {value} is outside -{bound}..{bound} degrees")
    return latitude, longitude
