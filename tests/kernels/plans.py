"""What the tests of the kernels share: a plan with every step, a strategy for any plan, and a plan in plain Python."""

import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.plan import (
    Clip,
    Input,
    Log,
    Plan,
    PointDistance,
    PolylineDistance,
    Product,
    Ratio,
    Rotation,
    Standardise,
    Step,
)

COAST = ((37.8, -122.5), (36.6, -121.9), (34.4, -119.7), (32.7, -117.2))

EVERY_STEP = Plan(
    inputs=tuple(Input(name=name) for name in ("lat", "lon", "rooms", "people")),
    steps=(
        Ratio(output="ratio", numerator="rooms", denominator="people"),
        Product(output="product", left="ratio", right="rooms"),
        Log(output="log", input="people", offset=1.0),
        Clip(output="clip", input="ratio", lower=0.5, upper=4.0),
        Standardise(output="standard", input="log", mean=2.0, scale=0.5),
        Rotation(output="rotated", x="lat", y="lon", degrees=30.0),
        PointDistance(output="city", latitude="lat", longitude="lon", point=(37.7749, -122.4194)),
        PolylineDistance(output="coast", latitude="lat", longitude="lon", vertices=COAST),
    ),
    outputs=("coast", "lat", "ratio", "product", "log", "clip", "standard", "rotated", "city"),
)
"""Each kind of step, chained and passed through."""

_HARD = (0.0, -0.0, 5e-324, -1e-310, 1.0, -1.0, 89.0, 1e300, math.inf, -math.inf, math.nan)
HARD_ROWS = np.stack(np.meshgrid(*[_HARD] * 4), axis=-1).reshape(-1, 4)
"""float64[B, 4]: every combination of the values that arithmetic stumbles on."""


def california(count: int) -> NDArray[np.float64]:
    """float64[count, 4]: ordinary rows for `EVERY_STEP`."""
    low, high = np.array([32.5, -124.3, 1.0, 1.0]), np.array([42.0, -114.1, 9.0, 3000.0])
    return np.random.default_rng(11).uniform(low, high, (count, 4))


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(str.strip)
finite = st.floats(allow_nan=False, allow_infinity=False)
ranges = st.none() | st.tuples(finite, finite).map(lambda bounds: (min(bounds), max(bounds)))
points = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any valid plan: of few inputs and steps, but of every kind of step and any parameters."""
    fresh = draw(st.lists(names, min_size=1, max_size=9, unique=True))
    n_inputs = draw(st.integers(1, len(fresh)))
    inputs = tuple(
        Input(
            name=name,
            description=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)),
            unit=draw(st.sampled_from(["", "km", "°"])),
            physical_range=draw(ranges),
            training_range=draw(ranges),
        )
        for name in fresh[:n_inputs]
    )
    steps = tuple(
        draw(steps_of(output, tuple(fresh[:index]))) for index, output in enumerate(fresh[n_inputs:], n_inputs)
    )
    outputs = draw(st.lists(st.sampled_from(fresh), min_size=1, unique=True))
    return Plan(inputs=inputs, steps=steps, outputs=tuple(outputs))


def steps_of(output: str, known: tuple[str, ...]) -> st.SearchStrategy[Step]:
    """Any step that writes `output` and reads known names."""
    name, written = st.sampled_from(known), st.just(output)
    clips = st.tuples(finite, finite).map(sorted)
    return st.one_of(
        st.builds(Ratio, output=written, numerator=name, denominator=name),
        st.builds(Product, output=written, left=name, right=name),
        st.builds(Log, output=written, input=name, offset=finite),
        st.builds(
            lambda operand, bounds: Clip(output=output, input=operand, lower=bounds[0], upper=bounds[1]), name, clips
        ),
        st.builds(Standardise, output=written, input=name, mean=finite, scale=finite.filter(bool)),
        st.builds(Rotation, output=written, x=name, y=name, degrees=finite),
        st.builds(PointDistance, output=written, latitude=name, longitude=name, point=points),
        st.builds(
            PolylineDistance,
            output=written,
            latitude=name,
            longitude=name,
            vertices=st.lists(points, min_size=2, max_size=4).map(tuple),
        ),
    )


def by_hand(plan: Plan, X: NDArray[np.floating]) -> NDArray[np.float64]:
    """float64[B, O] of a plan, a row at a time in plain Python, before it is rounded to float32."""
    result = np.empty((len(X), len(plan.outputs)))
    with np.errstate(all="ignore"):
        for index, row in enumerate(X):
            values = {column.name: np.float64(value) for column, value in zip(plan.inputs, row, strict=True)}
            for step in plan.steps:
                operands = (values[name] for name in step.operand_names())
                values[step.output] = np.float64(FORMULAS[type(step)](step, *operands))
            result[index] = [values[name] for name in plan.outputs]
    return result


def assert_rounded(actual: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    """`actual` is `expected` rounded to float32, give or take the last digit."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    below, above = (np.nextafter(rounded, np.float32(limit)) for limit in (-np.inf, np.inf))
    near = (below <= actual) & (actual <= above)
    wrong = np.argwhere(~(near | (np.isnan(actual) & np.isnan(rounded))))
    assert not len(wrong), f"{actual[tuple(wrong[0])]} at {wrong[0]}, expected {rounded[tuple(wrong[0])]}"


def _log(step: Log, value: np.float64) -> float:
    total = value + step.offset
    if total == 0:
        return -math.inf
    return math.log(total) if total > 0 else math.nan


def _clip(step: Clip, value: np.float64) -> float:
    return value if math.isnan(value) else max(step.lower, min(step.upper, value))


def _rotation(step: Rotation, x: np.float64, y: np.float64) -> float:
    return x * math.cos(math.radians(step.degrees)) + y * math.sin(math.radians(step.degrees))


def _point_distance(step: PointDistance, latitude: np.float64, longitude: np.float64) -> float:
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    south, north = math.radians(latitude), math.radians(step.point[0])
    chord = math.sin(math.radians(step.point[0] - latitude) / 2) ** 2
    chord += math.cos(south) * math.cos(north) * math.sin(math.radians(step.point[1] - longitude) / 2) ** 2
    return 6371.0088 * 2 * math.asin(math.sqrt(min(1.0, max(0.0, chord))))


def _polyline_distance(step: PolylineDistance, latitude: np.float64, longitude: np.float64) -> float:
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    nearest = np.inf
    shrink = math.cos(math.radians(latitude))
    vertices = np.array(step.vertices)
    turns = np.round(np.diff(vertices[:, 1]) / 360.0)  # the short way round, at most half a turn
    for start, end, turn in zip(vertices, vertices[1:], turns, strict=False):
        west = start[1] - longitude
        # To int64, because that is what math.floor gives in compiled code: it matters beyond 10**21 degrees.
        whole = 360.0 * np.floor((west + 180.0) / 360.0).astype(np.int64)
        first = np.array([(west - whole) * shrink, start[0] - latitude])
        second = np.array([(end[1] - 360.0 * turn - longitude - whole) * shrink, end[0] - latitude])
        along = second - first
        length = (along * along).sum()
        share = min(1.0, max(0.0, -(first * along).sum() / length)) if length > 0 else 0.0
        nearest = min(nearest, ((first + share * along) ** 2).sum())
    return np.sqrt(nearest) * (6371.0088 * math.pi / 180)


FORMULAS: dict[type, Callable[..., float]] = {
    Ratio: lambda step, numerator, denominator: numerator / denominator,
    Product: lambda step, left, right: left * right,
    Log: _log,
    Clip: _clip,
    Standardise: lambda step, value: (value - step.mean) / step.scale,
    Rotation: _rotation,
    PointDistance: _point_distance,
    PolylineDistance: _polyline_distance,
}
