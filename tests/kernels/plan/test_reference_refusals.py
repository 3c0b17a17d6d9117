"""What is refused of steps over stored rows, and how it is named."""

import json
import math
from typing import Any

import pytest

from kernels.plan.neighbours import LEAST_RIDGE, LEAST_SOFTENING
from kernels.plan.plan import Factor, GaussianProcess, Neighbours, Plan, PlanError, Regression, Term
from kernels.plan.references import MAX_ROWS

NAMES = [f"c{place}" for place in range(9)]
MANY = [f"c{place}" for place in range(65)]
REGRESSION = {"output": "r", "inputs": ["b"], "scales": [2], "count": 4, "ridge": 1}
NEAR = {
    **{"op": "neighbours", "output": "near", "inputs": ["a", "b"], "scales": [1, 2], "counts": [1, 5]},
    **{"softening": 0.5, "contrasts": ["a"], "contrast_counts": [2, 6], "outside_distance": 3},
    "regressions": [REGRESSION],
}
FACTOR = {"shape": "matern32", "inputs": ["a", "b"], "lengths": [1, 2]}
PROCESS = {"op": "gaussian_process", "output": "gp", "terms": [{"variance": 2, "factors": [FACTOR]}], "noise": 0.5}
VALID: dict[str, Any] = {
    "version": 1,
    "inputs": [{"name": "a"}, {"name": "b"}],
    "references": {"rows": 8, "columns": ["a", "b", "target", "weights"], "steps": [NEAR, PROCESS]},
    "outputs": ["near_nearest", "gp"],
}


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(PlanError) as caught:
        Plan.from_json(json.dumps(document).encode())
    return str(caught.value)


def with_references(**change: Any) -> dict[str, Any]:
    return VALID | {"references": VALID["references"] | change}


def with_regression(**change: Any) -> dict[str, Any]:
    """With a good regression before the one that is changed."""
    return NEAR | {"regressions": [REGRESSION | {"output": "q"}, REGRESSION | change]}


def with_factor(**change: Any) -> dict[str, Any]:
    return PROCESS | {"terms": [{"variance": 2, "factors": [FACTOR | change]}]}


def test_steps_are_read_in_their_order() -> None:
    references = Plan.from_json(json.dumps(VALID).encode()).references
    assert references is not None
    near, process = references.steps
    assert isinstance(near, Neighbours)
    assert isinstance(process, GaussianProcess)
    assert (references.rows, references.columns) == (8, ("a", "b", "target", "weights"))
    assert (near.scales, near.softening, near.outside_distance) == ((1.0, 2.0), 0.5, 3.0)
    assert (near.contrasts, near.contrast_counts) == (("a",), (2, 6))
    assert near.regressions == (Regression(output="r", inputs=("b",), scales=(2.0,), count=4, ridge=1.0),)
    assert process.terms == (
        Term(variance=2.0, factors=(Factor(shape="matern32", inputs=("a", "b"), lengths=(1.0, 2.0)),)),
    )


@pytest.mark.parametrize(
    ("step", "field", "why"),
    [
        (NEAR | {"output": " "}, "output", "must be a non-blank name"),
        (NEAR | {"inputs": []}, "inputs", "must have 1 to 8 names, got 0"),
        (NEAR | {"inputs": NAMES, "scales": []}, "inputs", "must have 1 to 8 names, got 9"),
        (NEAR | {"inputs": ["a", ""]}, "inputs[1]", "must be a non-blank name"),
        (NEAR | {"inputs": ["a", "a"]}, "inputs", "names 'a' twice"),
        (NEAR | {"inputs": ["a", "c"]}, "'c'", "the table has no column"),
        (NEAR | {"scales": [1]}, "scales", "must be 2 numbers, got 1"),
        (NEAR | {"scales": [1, 0]}, "scales", "must be above zero, got 0.0"),
        (NEAR | {"scales": [-1, 1]}, "scales", "must be above zero, got -1.0"),
        (NEAR | {"scales": []}, "scales is empty", "the step has not been fitted"),
        (NEAR | {"target": ""}, "target", "must be a non-blank name"),
        (NEAR | {"target": "price"}, "'price'", "the table has no column"),
        (NEAR | {"counts": [0, 1]}, "counts[0]", "must be 1 to 64, got 0"),
        (NEAR | {"counts": [1, 65]}, "counts[1]", "must be 1 to 64, got 65"),
        (NEAR | {"counts": [5, 1]}, "counts", "must ascend, got (5, 1)"),
        (NEAR | {"counts": [5, 5]}, "counts", "must ascend, got (5, 5)"),
        (NEAR | {"counts": [9]}, "9 neighbours", "of 8 rows cannot be found"),
        (NEAR | {"contrast_counts": [2, 9]}, "9 neighbours", "of 8 rows cannot be found"),
        (NEAR | {"contrast_counts": [0]}, "contrast_counts[0]", "must be 1 to 64, got 0"),
        (NEAR | {"contrast_counts": [1, 65]}, "contrast_counts[1]", "must be 1 to 64, got 65"),
        (NEAR | {"contrast_counts": [4, 2]}, "contrast_counts", "must ascend, got (4, 2)"),
        (NEAR | {"contrast_counts": []}, "contrasts and contrast_counts", "need each other"),
        (NEAR | {"contrasts": []}, "contrasts and contrast_counts", "need each other"),
        (NEAR | {"contrasts": NAMES}, "contrasts", "must have 0 to 8 names, got 9"),
        (NEAR | {"contrasts": ["b", "b"]}, "contrasts", "names 'b' twice"),
        (NEAR | {"contrasts": [""]}, "contrasts[0]", "must be a non-blank name"),
        (NEAR | {"contrasts": ["c"]}, "'c'", "the table has no column"),
        (NEAR | {"contrasts": NAMES[:8]}, "contrasts and regressions", "have more than 8 attributes"),
        (with_regression(output=" "), "regressions[1].output", "must be a non-blank name"),
        (with_regression(output="q"), "two regressions", "have the same output"),
        (with_regression(inputs=[], scales=[]), "regressions[1].inputs", "must have 1 to 8 names, got 0"),
        (with_regression(inputs=NAMES, scales=[]), "regressions[1].inputs", "must have 1 to 8 names, got 9"),
        (with_regression(inputs=["b", ""], scales=[]), "regressions[1].inputs[1]", "must be a non-blank name"),
        (with_regression(inputs=["b", "b"], scales=[]), "regressions[1].inputs", "names 'b' twice"),
        (with_regression(inputs=["c"]), "'c'", "the table has no column"),
        (with_regression(inputs=["a", "b"]), "regressions[1].scales", "must be 2 numbers, got 1"),
        (with_regression(scales=[0]), "regressions[1].scales", "must be above zero, got 0.0"),
        (with_regression(scales=[-1]), "regressions[1].scales", "must be above zero, got -1.0"),
        (with_regression(scales=[]), "regressions[1].scales is empty", "the step has not been fitted"),
        (with_regression(count=0), "regressions[1].count", "must be 1 to 64, got 0"),
        (with_regression(count=65), "regressions[1].count", "must be 1 to 64, got 65"),
        (with_regression(count=9), "9 neighbours", "of 8 rows cannot be found"),
        (with_regression(ridge=0), "regressions[1].ridge", "must be at least 1e-06, got 0.0"),
        (with_regression(ridge=LEAST_RIDGE / 2), "regressions[1].ridge", "must be at least 1e-06, got 5e-07"),
        (with_regression(ridge=-1), "regressions[1].ridge", "must be at least 1e-06, got -1.0"),
        (
            NEAR | {"regressions": [REGRESSION | {"output": name} for name in NAMES]},
            "regressions",
            "must be at most 8",
        ),
        (NEAR | {"softening": 0}, "softening", "must be at least 1e-09, got 0.0"),
        (NEAR | {"softening": LEAST_SOFTENING / 2}, "softening", "must be at least 1e-09, got 5e-10"),
        (NEAR | {"softening": -1}, "softening", "must be at least 1e-09, got -1.0"),
        (NEAR | {"outside_distance": -1}, "outside_distance", "must be at least 0.0, got -1.0"),
        (PROCESS | {"output": ""}, "output", "must be a non-blank name"),
        (PROCESS | {"target": " "}, "target", "must be a non-blank name"),
        (PROCESS | {"weights": ""}, "weights", "must be a non-blank name"),
        (PROCESS | {"weights": "mass"}, "'mass'", "the table has no column"),
        (PROCESS | {"constant": -1}, "constant", "must be at least zero, got -1.0"),
        (PROCESS | {"noise": -0.5}, "noise", "must be at least zero, got -0.5"),
        (PROCESS | {"terms": []}, "terms", "must be 1 to 8, got 0"),
        (PROCESS | {"terms": PROCESS["terms"] * 9}, "terms", "must be 1 to 8, got 9"),
        (PROCESS | {"terms": [{"variance": 0, "factors": [FACTOR]}]}, "terms[0].variance", "must be above zero"),
        (PROCESS | {"terms": [{"variance": 1, "factors": []}]}, "terms[0].factors", "is empty"),
        (with_factor(inputs=[], lengths=[]), "terms[0].factors[0].inputs", "must have 1 to 64 names, got 0"),
        (with_factor(lengths=[1]), "terms[0].factors[0].lengths", "must be 2 numbers, got 1"),
        (with_factor(lengths=[1, 0]), "terms[0].factors[0].lengths", "must be above zero, got 0.0"),
        (with_factor(lengths=[1, -2]), "terms[0].factors[0].lengths", "must be above zero, got -2.0"),
        (with_factor(lengths=[]), "terms[0].factors[0].lengths is empty", "the step has not been fitted"),
        (with_factor(inputs=["a", ""]), "terms[0].factors[0].inputs[1]", "must be a non-blank name"),
        (with_factor(inputs=["a", "a"]), "terms[0].factors[0].inputs", "names 'a' twice"),
        (with_factor(inputs=["a", "c"]), "'c'", "the table has no column"),
        (
            with_factor(inputs=MANY, lengths=[1] * 65),
            "terms[0].factors[0].inputs",
            "must have 1 to 64 names, got 65",
        ),
        (
            PROCESS | {"terms": [{"variance": 1, "factors": [FACTOR] * 33}]},
            "the factors have 66 columns",
            "at most 64 can be",
        ),
    ],
)
def test_a_bad_step_is_refused_by_its_name_and_field(step: dict[str, Any], field: str, why: str) -> None:
    message = refusal(with_references(steps=[step]) | {"outputs": ["a"]})
    named = f"reference step {step['output']!r} ({step['op']})" if step["output"].strip() else step["op"]
    assert named in message
    assert field in message
    assert why in message


NOT_NUMBERS = [math.nan, math.inf, -math.inf, True, "1", 10**400]


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("field", ["softening", "outside_distance", "scales"])
def test_a_neighbours_number_is_finite_even_in_a_plan_written_in_python(field: str, value: Any) -> None:
    change: Any = {field: (value,) if field == "scales" else value}
    with pytest.raises(PlanError, match=rf"^reference step 'x' \(neighbours\): {field}.* must be a finite number"):
        Neighbours(output="x", inputs=("a",), **change)


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("field", ["ridge", "scales"])
def test_a_regression_s_number_is_finite_even_in_a_plan_written_in_python(field: str, value: Any) -> None:
    change: Any = {field: (value,) if field == "scales" else value}
    regression = Regression(output="r", inputs=("a",), count=1, **change)
    match = rf"^reference step 'x' \(neighbours\): regressions\[0\].{field} must be a finite number"
    with pytest.raises(PlanError, match=match):
        Neighbours(output="x", inputs=("a",), regressions=(regression,))


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("field", ["constant", "noise", "lengths", "variance"])
def test_a_gaussian_process_written_in_python_has_finite_numbers(field: str, value: Any) -> None:
    factor = Factor(shape="exponential", inputs=("a",), lengths=(value if field == "lengths" else 1,))
    terms = (Term(variance=value if field == "variance" else 1, factors=(factor,)),)
    change = {field: value} if field in ("constant", "noise") else {}
    with pytest.raises(PlanError, match=rf"^reference step 'x' \(gaussian_process\): .*{field}.* must be a finite num"):
        GaussianProcess(output="x", terms=terms, **change)


def test_counts_and_shapes_written_in_python_are_checked_too() -> None:
    for count in (True, 1.0, "1"):
        with pytest.raises(PlanError, match=r"reference step 'x' \(neighbours\): counts\[0\] must be 1 to 64"):
            Neighbours(output="x", inputs=("a",), counts=(count,))  # pyright: ignore[reportArgumentType]
        regression = Regression(output="r", inputs=("a",), count=count)  # pyright: ignore[reportArgumentType]
        with pytest.raises(PlanError, match=r"step 'x' \(neighbours\): regressions\[0\].count must be 1 to 64"):
            Neighbours(output="x", inputs=("a",), regressions=(regression,))
    shape: Any = "periodic"
    factor = Factor(shape=shape, inputs=("a",), lengths=(1,))
    with pytest.raises(PlanError, match=r"terms\[0\].factors\[0\].shape must be one of exponential, matern32, sq"):
        GaussianProcess(output="x", terms=(Term(variance=1, factors=(factor,)),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "references: rows must be 1 to 50000, got 0"),
        ({"rows": MAX_ROWS + 1}, "references: rows must be 1 to 50000, got 50001"),
        ({"columns": ["a", "", "b"]}, "references: columns[1] must be a non-blank name"),
        ({"columns": ["a", "b", "a"]}, "references: column 'a' is named twice"),
        ({"steps": []}, "references: steps is empty"),
        ({"rows": "8"}, "$.references.rows"),
        ({"labels": []}, "unknown field `labels` - at `$.references`"),
        ({"steps": [NEAR | {"op": "cluster"}]}, "Invalid value 'cluster' - at `$.references.steps[0].op`"),
        ({"steps": [NEAR | {"metric": "cosine"}]}, "unknown field `metric` - at `$.references.steps[0]`"),
        (
            {"steps": [with_regression(weights="w")]},
            "unknown field `weights` - at `$.references.steps[0].regre",
        ),
        (
            {"steps": [with_regression(count=2.5)]},
            "Expected `int`, got `float` - at `$.references.steps[0].regre",
        ),
        (
            {"steps": [NEAR | {"regressions": [{"output": "r", "inputs": ["b"]}]}]},
            "missing required field `count` - at `$.references.steps[0].regressions[0]`",
        ),
        ({"steps": [NEAR, PROCESS | {"noise": "little"}]}, "$.references.steps[1].noise"),
        ({"steps": [with_factor(shape="periodic")]}, "Invalid enum value 'periodic'"),
    ],
)
def test_bad_references_are_refused_by_their_field(change: dict[str, Any], message: str) -> None:
    assert message in refusal(with_references(**change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"columns": [f"c{index}" for index in range(1001)]}, "columns are 1001, and at most 1000 are read"),
        ({"steps": [NEAR] * 33}, "steps are 33, and at most 32 are read"),
    ],
)
def test_more_columns_and_steps_than_a_plan_may_have_are_refused(change: dict[str, Any], reason: str) -> None:
    assert f"references: {reason}" in refusal(with_references(**change))
