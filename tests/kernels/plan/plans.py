"""What the tests of the kernels share: plans with every step, and strategies for any plan."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.plan.gaussian_process import SHAPES
from kernels.plan.plan import (
    Clip,
    Factor,
    GaussianProcess,
    Input,
    Log,
    Neighbours,
    Plan,
    PointDistance,
    PolylineDistance,
    Product,
    Ratio,
    References,
    Regression,
    Rotation,
    Standardise,
    Step,
    Term,
)
from kernels.plan.program import Program
from kernels.plan.references import AnyReferenceStep
from tests.kernels.plan.by_hand import by_hand

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


EVERY_REFERENCE = Plan(
    inputs=EVERY_STEP.inputs,
    steps=EVERY_STEP.steps,
    references=References(
        rows=300,
        columns=("target", "lat", "rotated", "standard", "lon", "weights"),
        steps=(
            Neighbours(
                output="near",
                inputs=("lat", "rotated"),
                scales=(0.5, 2.0),
                counts=(1, 6, 64),
                contrasts=("lon", "standard"),
                contrast_counts=(3, 20),
                regressions=(
                    Regression(output="small", inputs=("standard", "lon"), scales=(0.8, 3.0), count=10),
                    Regression(output="large", inputs=("lon",), scales=(2.0,), count=40, ridge=0.02),
                ),
                outside_distance=4.0,
            ),
            GaussianProcess(
                output="process",
                terms=(
                    Term(
                        variance=0.7,
                        factors=(
                            Factor(shape="matern32", inputs=("lat", "rotated"), lengths=(1.0, 4.0)),
                            Factor(shape="exponential", inputs=("lon",), lengths=(3.0,)),
                        ),
                    ),
                    Term(
                        variance=0.2,
                        factors=(
                            Factor(
                                shape="squared_exponential", inputs=("lat", "standard", "lon"), lengths=(2.0, 5.0, 1.0)
                            ),
                        ),
                    ),
                ),
            ),
        ),
    ),
    outputs=(
        *("near_median_6", "lon", "process", "near_large_local", "log", "near_nearest", "near_small_slope_lon"),
        *("near_weighted_mean_64", "rotated", "near_deviation_64", "near_contrast_standard_20", "near_small_intercept"),
    ),
)
"""Both kinds of reference steps on inputs and on stateless steps, some of their outputs, out of order."""


def stored(plan: Plan) -> NDArray[np.float64]:
    """float64[N, C]: a table for a plan over the inputs of `EVERY_STEP`, the target and weights at random."""
    assert plan.references is not None
    random = np.random.default_rng(12)
    count, names = plan.references.rows, plan.references.columns
    computed = {name for name in names if name not in ("target", "weights")}
    known = Plan(inputs=plan.inputs, steps=plan.steps, outputs=tuple(computed))
    columns = dict(zip(known.outputs, by_hand(known, california(count)).T, strict=True))
    return np.stack([columns[name] if name in computed else random.normal(size=count) for name in names], axis=1)


def alone(step: AnyReferenceStep, columns: Mapping[str, NDArray[np.float64]], outputs: tuple[str, ...] = ()) -> Program:
    """The program of one reference step over inputs of its operands' names, which gives all of its outputs."""
    names = step.table_names()
    plan = Plan(
        inputs=tuple(Input(name=name) for name in dict.fromkeys(step.operand_names())),
        references=References(rows=len(columns[names[0]]), columns=tuple(dict.fromkeys(names)), steps=(step,)),
        outputs=outputs or step.outputs,
    )
    return plan.program(np.stack([columns[name] for name in dict.fromkeys(names)], axis=1))


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(str.strip)
finite = st.floats(allow_nan=False, allow_infinity=False)
ranges = st.none() | st.tuples(finite, finite).map(lambda bounds: (min(bounds), max(bounds)))
points = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
positive = st.floats(0.05, 20)


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


@st.composite
def referring_plans(draw: st.DrawFn) -> Plan:
    """Any valid plan with one or two reference steps, in parameters that a float32 can tell apart."""
    plan = draw(plans())
    known = [*plan.input_names, *(step.output for step in plan.steps)]
    steps: list[AnyReferenceStep] = []
    for kind in draw(st.sampled_from(["n", "g", "ng", "gn"])):
        output = f"reference {len(steps)}"
        steps.append(draw(neighbours_of(output, known) if kind == "n" else processes_of(output, known)))
    read = dict.fromkeys(name for step in steps for name in step.table_names())
    outputs = draw(
        st.lists(st.sampled_from([*known, *(name for step in steps for name in step.outputs)]), min_size=1, unique=True)
    )
    return Plan(
        inputs=plan.inputs,
        steps=plan.steps,
        references=References(rows=draw(st.integers(64, 100)), columns=tuple(read), steps=tuple(steps)),
        outputs=tuple(outputs),
    )


@st.composite
def neighbours_of(draw: st.DrawFn, output: str, known: list[str]) -> Neighbours:
    """Any neighbours step that writes `output...` and reads known names."""
    inputs = draw(few(known, 1, 8))
    attributes = draw(few(known, 0, 8))
    contrasts = draw(few(attributes, 0, 8)) if attributes else ()
    counts = st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True).map(sorted).map(tuple)
    regressed = draw(st.lists(names, max_size=3, unique=True)) if attributes else []
    return Neighbours(
        output=output,
        inputs=inputs,
        scales=draw(as_many(inputs)),
        target=" target",
        counts=draw(st.just(()) | counts),
        softening=draw(positive),
        contrasts=contrasts,
        contrast_counts=draw(counts) if contrasts else (),
        regressions=tuple(draw(regressions_of(f"regression {name}", attributes)) for name in regressed),
    )


@st.composite
def regressions_of(draw: st.DrawFn, output: str, attributes: Sequence[str]) -> Regression:
    """Any local regression on some of these attributes."""
    inputs = draw(few(attributes, 1, 8))
    return Regression(
        output=output,
        inputs=inputs,
        scales=draw(as_many(inputs)),
        count=draw(st.integers(1, 64)),
        ridge=draw(st.floats(1e-3, 20)),
    )


def few(known: Sequence[str], least: int, most: int) -> st.SearchStrategy[tuple[str, ...]]:
    """Some of the names, each once."""
    return st.lists(st.sampled_from(known), min_size=least, max_size=most, unique=True).map(tuple)


def as_many(inputs: tuple[str, ...]) -> st.SearchStrategy[tuple[float, ...]]:
    """A scale or length for each input."""
    return st.lists(positive, min_size=len(inputs), max_size=len(inputs)).map(tuple)


@st.composite
def processes_of(draw: st.DrawFn, output: str, known: list[str]) -> GaussianProcess:
    """Any Gaussian process that writes `output` and reads known names."""

    def factor() -> Factor:
        inputs = draw(few(known, 1, 3))
        return Factor(shape=draw(st.sampled_from(SHAPES)), inputs=inputs, lengths=draw(as_many(inputs)))

    return GaussianProcess(
        output=output,
        terms=tuple(
            Term(variance=draw(positive), factors=tuple(factor() for _ in range(draw(st.integers(1, 2)))))
            for _ in range(draw(st.integers(1, 2)))
        ),
        constant=draw(positive | st.just(0.0)),
        noise=draw(positive | st.just(0.0)),
        target=" target",
        weights=" weights",
    )


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
