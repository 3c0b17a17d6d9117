"""Feature plans: what is refused and how it is named, and that a stored plan is the plan."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.plan.plan import Input, Log, Plan, PlanError, PointDistance, PolylineDistance, Product
from tests.kernels.plan.plans import EVERY_REFERENCE, EVERY_STEP, plans, stored

CITY = {"op": "point_distance", "output": "city", "latitude": "a", "longitude": "b", "point": [37.8, -122.4]}
SHORE = {
    **{"op": "polyline_distance", "output": "shore", "latitude": "a", "longitude": "b"},
    "vertices": [[37.8, -122.4], [34.0, -118.5]],
}
LOG = {"op": "log", "output": "l", "input": "a", "offset": 1}
CLIP = {"op": "clip", "output": "c", "input": "a", "lower": 0, "upper": 1}
STANDARDISE = {"op": "standardise", "output": "z", "input": "a", "mean": 0, "scale": 1}
ROTATION = {"op": "rotation", "output": "r", "x": "a", "y": "b", "degrees": 30}
RATIO = {"op": "ratio", "output": "q", "numerator": "a", "denominator": "b"}
NEAR = {"op": "neighbours", "output": "near", "inputs": ["a"], "scales": [1], "counts": [1]}
REGRESSION = {"output": "r", "inputs": ["a"], "scales": [1], "count": 2}
PROCESS = {
    **{"op": "gaussian_process", "output": "gp"},
    "terms": [{"variance": 1, "factors": [{"shape": "exponential", "inputs": ["a"], "lengths": [1]}]}],
}
VALID: dict[str, Any] = {
    "version": 1,
    "inputs": [{"name": "a"}, {"name": "b", "physical_range": [0, 1], "training_range": [0.25, 0.5]}],
    "steps": [CITY, SHORE, LOG, CLIP, STANDARDISE, ROTATION, RATIO],
    "outputs": ["a", "city", "q"],
}

SOME = settings(max_examples=30)
"""A plan holds many steps, and drawing it takes longer than the test."""


def refusal(document: Any) -> str:
    with pytest.raises(PlanError) as caught:
        Plan.from_json(document if isinstance(document, bytes) else json.dumps(document).encode())
    return str(caught.value)


def with_steps(*steps: dict[str, Any]) -> dict[str, Any]:
    return VALID | {"steps": list(steps), "outputs": ["a"]}


def with_references(*steps: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    columns = ["a", "q", "later", "near_nearest", "target", "weights"]
    return VALID | {"references": {"rows": 5, "columns": columns, "steps": list(steps)}, "outputs": outputs}


@pytest.mark.parametrize(
    ("steps", "outputs", "message"),
    [
        (
            [NEAR | {"inputs": ["later"]}],
            ["a"],
            "reference step 'near' (neighbours): 'later' is neither an input nor the output of a stateless step",
        ),
        (
            [NEAR, NEAR | {"output": "far", "inputs": ["near_nearest"]}],
            ["a"],
            "reference step 'far' (neighbours): 'near_nearest' is neither an input nor the output of a stateless step",
        ),
        (
            [NEAR | {"contrasts": ["later"], "contrast_counts": [2]}],
            ["a"],
            "reference step 'near' (neighbours): 'later' is neither",
        ),
        (
            [NEAR | {"regressions": [REGRESSION, REGRESSION | {"output": "s", "inputs": ["later"]}]}],
            ["a"],
            "reference step 'near' (neighbours): 'later' is neither",
        ),
        (
            [NEAR | {"scales": []}],
            ["a"],
            "reference step 'near' (neighbours): scales is empty: the step has not been fitted",
        ),
        ([PROCESS | {"output": "q"}], ["a"], "reference step 'q' (gaussian_process): 'q' is already the name"),
        ([PROCESS | {"output": "a"}], ["a"], "reference step 'a' (gaussian_process): 'a' is already the name"),
        ([NEAR, NEAR], ["a"], "reference step 'near' (neighbours): 'near_nearest' is already the name"),
        (
            [NEAR, PROCESS | {"output": "near_mean_1"}],
            ["a"],
            "reference step 'near_mean_1' (gaussian_process): 'near_mean_1' is already the name",
        ),
        (
            [NEAR | {"outside_distance": 1}],
            ["near_mean_1"],
            "reference step 'near' (neighbours): outside_distance is tested on 'near_nearest', which is not an output",
        ),
        (
            [NEAR | {"outside_distance": 1}, NEAR | {"output": "far", "outside_distance": 2}],
            ["near_nearest", "far_nearest"],
            "reference step 'far' (neighbours): only one step can have an outside_distance, 'near' has",
        ),
        ([NEAR], ["near"], "plan: outputs[0] 'near' is unknown"),
        ([NEAR], ["near_mean_2"], "plan: outputs[0] 'near_mean_2' is unknown"),
        (
            [NEAR | {"regressions": [REGRESSION]}, PROCESS | {"output": "near_r_slope_a"}],
            ["a"],
            "reference step 'near_r_slope_a' (gaussian_process): 'near_r_slope_a' is already the name",
        ),
    ],
)
def test_bad_reference_steps_are_refused_by_name(steps: list[Any], outputs: list[str], message: str) -> None:
    assert message in refusal(with_references(*steps, outputs=outputs))


def test_reference_steps_mix_with_inputs_and_stateless_steps() -> None:
    steps = (
        NEAR | {"inputs": ["q", "a"], "scales": [1, 1], "outside_distance": 0},
        PROCESS,
        NEAR | {"output": "far", "contrasts": ["q"], "contrast_counts": [3], "regressions": [REGRESSION]},
    )
    plan = Plan.from_json(
        json.dumps(
            with_references(*steps, outputs=["gp", "q", "near_nearest", "far_r_local", "a", "far_median_1"])
        ).encode()
    )
    assert [step.output for step in plan.reference_steps] == ["near", "gp", "far"]
    program = plan.program(np.ones((5, 6)))
    np.testing.assert_array_equal(program.points, [8, 0])
    np.testing.assert_array_equal(program.outputs, [8, 0])
    np.testing.assert_array_equal(program.columns, [1, 4])
    assert program.n_outputs == 6
    near, process, far = program.references
    np.testing.assert_array_equal(near.points, [0, 1])
    np.testing.assert_array_equal(near.columns, [2, -1, -1, -1, -1, -1])
    np.testing.assert_array_equal(process.columns, [0])
    np.testing.assert_array_equal(far.points, [1, 0, 1])
    np.testing.assert_array_equal(far.columns, [-1, -1, -1, -1, 5, -1, -1, 3, -1, -1])


def test_a_program_needs_a_table_exactly_where_there_are_references() -> None:
    table = stored(EVERY_REFERENCE)
    assert EVERY_REFERENCE.program(table) == EVERY_REFERENCE.program(table.copy())
    with pytest.raises(PlanError, match="plan: references need a table"):
        EVERY_REFERENCE.program()
    with pytest.raises(PlanError, match="plan: references are absent, and there is a table"):
        EVERY_STEP.program(table)
    with pytest.raises(PlanError, match=r"references: the table must be float64\[300, 6\], got float64\[299, 6\]"):
        EVERY_REFERENCE.program(table[1:])
    with pytest.raises(PlanError, match="references: row 4, column 'lat' of the table is not finite"):
        EVERY_REFERENCE.program(np.where(table == table[4, 1], np.nan, table))


def test_a_plan_is_read_in_its_order() -> None:
    plan = Plan.from_json(json.dumps(VALID).encode())
    assert plan.input_names == ("a", "b")
    assert [step.output for step in plan.steps] == ["city", "shore", "l", "c", "z", "r", "q"]
    assert plan.outputs == ("a", "city", "q")


@pytest.mark.parametrize(
    ("step", "field", "why"),
    [
        (RATIO | {"numerator": "nowhere"}, "numerator 'nowhere'", "is unknown"),
        (RATIO | {"denominator": "later"}, "denominator 'later'", "is defined later"),
        (RATIO | {"denominator": "q"}, "denominator 'q'", "is the step's own output"),
        (ROTATION | {"y": "nowhere"}, "y 'nowhere'", "is unknown"),
        (CITY | {"longitude": "nowhere"}, "longitude 'nowhere'", "is unknown"),
        (RATIO | {"output": "a"}, "output 'a'", "is already the name"),
        (RATIO | {"numerator": " "}, "numerator", "must be a non-blank name"),
        (RATIO | {"output": ""}, "output", "must be a non-blank name"),
        (STANDARDISE | {"scale": 0}, "scale", "must not be zero"),
        (STANDARDISE | {"scale": -0.0}, "scale", "must not be zero"),
        (CLIP | {"lower": 2}, "lower (2.0)", "is above upper (1.0)"),
        (CITY | {"point": [90.5, 0]}, "point latitude 90.5", "is outside -90..90 degrees"),
        (CITY | {"point": [0, -180.5]}, "point longitude -180.5", "is outside -180..180 degrees"),
        (CITY | {"point": [-122.4, 37.8]}, "point latitude -122.4", "is outside"),
        (SHORE | {"vertices": [[0, 0]]}, "vertices", "needs at least 2 points, got 1"),
        (SHORE | {"vertices": []}, "vertices", "needs at least 2 points, got 0"),
        (SHORE | {"vertices": [[0, 0], [0, 181]]}, "vertices[1] longitude 181", "is outside"),
        (LOG | {"offset": "1"}, "offset", "Expected `float`, got `str`"),
        (LOG | {"offset": None}, "offset", "Expected `float`, got `null`"),
        (LOG | {"base": 2}, "unknown field `base`", "steps[0]"),
        (CITY | {"point": [1]}, "point", "Expected `array` of length 2"),
        (CITY | {"point": [1, 2, 3]}, "point", "Expected `array` of length 2"),
        ({"op": "log", "output": "l"}, "missing required field `input`", "steps[0]"),
        (RATIO | {"op": "sum"}, "Invalid value 'sum'", "$.steps[0].op"),
    ],
)
def test_a_bad_step_is_refused_by_its_name_and_field(step: dict[str, Any], field: str, why: str) -> None:
    message = refusal(with_steps(step, LOG | {"output": "later"}))
    assert step["op"] in message
    assert repr(step["output"]) in message or not step["output"]
    assert field in message
    assert why in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None, 10**400])
@pytest.mark.parametrize(
    ("step", "field"),
    [
        *((LOG, "offset"), (ROTATION, "degrees")),
        *((CLIP, "lower"), (CLIP, "upper"), (STANDARDISE, "mean"), (STANDARDISE, "scale")),
    ],
)
def test_a_parameter_is_a_finite_number_even_in_a_plan_written_in_python(
    step: dict[str, Any], field: str, value: Any
) -> None:
    kind = next(type(known) for known in EVERY_STEP.steps if known.op == step["op"])
    with pytest.raises(PlanError) as caught:
        kind(**{name: given for name, given in step.items() if name != "op"} | {field: value})
    assert str(caught.value).startswith(f"step '{step['output']}' ({step['op']}): {field} must be a finite number")


@pytest.mark.parametrize("point", [(math.nan, 0), (0, math.inf), (0,), (0, 0, 0), 5, "no"])
def test_coordinates_written_in_python_are_a_pair_of_finite_numbers(point: Any) -> None:
    with pytest.raises(PlanError, match=r"step 'd' \(point_distance\): point"):
        PointDistance(output="d", latitude="a", longitude="b", point=point)
    with pytest.raises(PlanError, match=r"step 'd' \(polyline_distance\): vertices\[1\]"):
        PolylineDistance(output="d", latitude="a", longitude="b", vertices=((0, 0), point))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_no_float64_holds_are_refused(number: str) -> None:
    text = json.dumps(with_steps(LOG | {"offset": 0.125})).replace("0.125", number)
    assert refusal(text.encode()).startswith("plan: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, "plan: inputs is empty"),
        ({"outputs": []}, "plan: outputs is empty"),
        ({"inputs": [{"name": "a"}, {"name": "a"}]}, "input 'a': name is used twice"),
        ({"inputs": [{"name": "a"}, {"name": "\t"}]}, "input: name must be a non-blank name, got '\\t'"),
        ({"inputs": [{"name": "a", "physical_range": [2, 1]}]}, "input 'a': physical_range is reversed: 2.0 is above"),
        ({"inputs": [{"name": "a", "training_range": [2, 1]}]}, "input 'a': training_range is reversed: 2.0 is above"),
        ({"inputs": [{"name": "a", "training_range": [2]}]}, "$.inputs[0].training_range"),
        ({"inputs": [{"name": "a", "note": ""}]}, "unknown field `note` - at `$.inputs[0]`"),
        ({"outputs": ["a", "nowhere"]}, "plan: outputs[1] 'nowhere' is unknown"),
        ({"outputs": ["a", "q", "a"]}, "plan: outputs[2] 'a' is named twice"),
        ({"steps": [LOG, CLIP | {"output": "l"}], "outputs": ["l"]}, "step 'l' (clip): output 'l' is already the name"),
        ({"version": 2}, "Invalid enum value 2 - at `$.version`"),
        ({"version": "1"}, "`$.version`"),
        ({"comment": "mine"}, "unknown field `comment`"),
        ({"steps": {}}, "`$.steps`"),
    ],
)
def test_a_bad_plan_is_refused_by_its_field(change: dict[str, Any], message: str) -> None:
    assert message in refusal(VALID | change)


def test_one_column_more_than_the_most_is_refused() -> None:
    names = [f"f{index}" for index in range(100_000)]
    plan = Plan(inputs=tuple(Input(name=name) for name in names), outputs=tuple(names))  # minutes, if compared by pairs
    assert Plan.from_json(plan.to_json()) == plan
    more = (*names, "one more")
    with pytest.raises(PlanError, match=r"^plan: inputs are 100001, and at most 100000 are read$"):
        Plan(inputs=tuple(Input(name=name) for name in more), outputs=("f0",))
    with pytest.raises(PlanError, match=r"^plan: outputs are 100001, and at most 100000 are read$"):
        Plan(inputs=plan.inputs, outputs=more)
    with pytest.raises(PlanError, match=r"^plan: steps are 100001, and at most 100000 are read$"):
        Plan(inputs=plan.inputs, steps=(Product(output="p", left="f0", right="f1"),) * 100_001, outputs=("f0",))


def test_a_version_written_in_python_is_checked_too() -> None:
    with pytest.raises(PlanError, match="plan: version 2 is not supported"):
        Plan(version=2, inputs=(Input(name="a"),), outputs=("a",))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("bounds", [(math.nan, 1), (0, math.inf), (1, 0), (1, 2, 3), (1,), "no", (True, False)])
def test_a_range_written_in_python_is_checked_too(bounds: Any) -> None:
    with pytest.raises(PlanError, match="input 'a': training_range"):
        Input(name="a", training_range=bounds)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"inputs": [{"name": "\xff"}]}'])
def test_what_is_no_plan_is_refused(text: bytes) -> None:
    assert refusal(text).startswith("plan: ")


@given(st.binary(max_size=100))
def test_no_bytes_break_the_reader(text: bytes) -> None:
    refusal(text)


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        EVERY_STEP.outputs = ()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="read-only"):
        EVERY_STEP.program().constants[0] = 1.0


@SOME
@given(plans())
def test_a_stored_plan_is_the_same_plan(plan: Plan) -> None:
    text = plan.to_json()
    again = Plan.from_json(text)
    assert again == plan
    assert again.to_json() == text
    assert again.program() == plan.program()
    assert hash(again.program()) == hash(plan.program())


def test_lists_and_whole_numbers_equal_the_tuples_and_floats_of_json() -> None:
    inputs: Any = [Input(name="a", physical_range=[0, 1])]  # pyright: ignore[reportArgumentType]
    steps: Any = [
        Log(output="l", input="a", offset=1),
        PointDistance(output="p", latitude="a", longitude="a", point=[1, 2]),  # pyright: ignore[reportArgumentType]
        PolylineDistance(output="s", latitude="a", longitude="a", vertices=[[1, 2], (3, 4)]),  # pyright: ignore[reportArgumentType]
    ]
    plan = Plan(inputs=inputs, steps=steps, outputs=["l"])  # pyright: ignore[reportArgumentType]
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    assert hash(again) == hash(plan)


def test_a_zero_has_no_sign() -> None:
    negative, positive = (
        Plan(inputs=(Input(name="a"),), steps=(Log(output="l", input="a", offset=zero),), outputs=("l",))
        for zero in (-0.0, 0.0)
    )
    assert negative == positive
    assert negative.to_json() == positive.to_json()
    assert negative.program() == positive.program()


def test_a_program_names_slots_in_the_order_of_inputs_and_steps() -> None:
    program = Plan.from_json(json.dumps(VALID).encode()).program()
    assert (program.n_inputs, program.n_slots, program.n_outputs) == (2, 9, 3)
    np.testing.assert_array_equal(program.operands[[0, 2, 6]], [[0, 1], [0, 0], [0, 1]])
    np.testing.assert_array_equal(program.outputs, [0, 2, 8])
    np.testing.assert_array_equal(program.offsets, [0, 2, 6, 7, 9, 11, 13])
    np.testing.assert_array_equal(program.lengths, [2, 4, 1, 2, 2, 2, 0])
    np.testing.assert_array_equal(program.constants[:7], [37.8, -122.4, 37.8, -122.4, 34.0, -118.5, 1.0])


@SOME
@given(plans())
def test_a_program_only_reads_what_is_written_before(plan: Plan) -> None:
    program = plan.program()
    assert program.n_slots == program.n_inputs + len(plan.steps)
    for step, operands in enumerate(program.operands):
        assert ((operands >= 0) & (operands < program.n_inputs + step)).all()
    assert ((program.outputs >= 0) & (program.outputs < program.n_slots)).all()
    assert ((program.offsets >= 0) & (program.offsets + program.lengths <= len(program.constants))).all()


@SOME
@given(plans())
def test_a_program_has_the_same_types_whatever_the_plan(plan: Plan) -> None:
    def kinds(plan: Plan) -> list[tuple[Any, ...]]:
        arrays = plan.program().arrays()
        return [(array.dtype, array.ndim, array.flags.c_contiguous, array.flags.writeable) for array in arrays]

    assert kinds(plan) == kinds(EVERY_STEP)


def test_programs_differ_where_their_plans_compute_otherwise() -> None:
    program = EVERY_STEP.program()
    other = Plan(inputs=EVERY_STEP.inputs, steps=EVERY_STEP.steps, outputs=EVERY_STEP.outputs[:-1])
    assert program != other.program()
    assert program != "program"


def test_a_coast_over_the_antimeridian_is_unrolled() -> None:
    step = PolylineDistance(output="d", latitude="a", longitude="b", vertices=((0, 179), (1, -179), (2, 178)))
    assert step.constants() == (0, 179, 1, 181, 2, 178)
