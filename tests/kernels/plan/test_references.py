"""Steps over stored rows, as data: what they read and write, what is still to be fitted, and their table."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from kernels.cpu.backend import CpuBackend
from kernels.plan.neighbours import LEAST_RIDGE, LEAST_SOFTENING
from kernels.plan.plan import (
    Factor,
    GaussianProcess,
    Input,
    Neighbours,
    Plan,
    PlanError,
    References,
    Regression,
    Term,
)
from kernels.plan.references import AnyReferenceStep, reference_names
from tests.kernels.plan.plans import EVERY_REFERENCE, referring_plans, stored


def test_steps_say_what_they_read_and_write() -> None:
    near = Neighbours(
        output="n",
        inputs=("a", "b"),
        counts=(1, 5),
        contrasts=("d", "b"),
        contrast_counts=(2, 7),
        regressions=(
            Regression(output="p", inputs=("c", "a"), count=9),
            Regression(output="q", inputs=("d",), count=3),
        ),
        target="t",
    )
    assert near.attributes == ("d", "b", "c", "a")
    assert near.operand_names() == ("a", "b", "d", "c")
    assert near.table_names() == ("a", "b", "d", "c", "t")
    assert near.searched == 9
    assert near.nearest == "n_nearest"
    assert near.outputs == (
        "n_nearest",
        *("n_mean_1", "n_weighted_mean_1", "n_deviation_1", "n_median_1", "n_distance_1"),
        *("n_mean_5", "n_weighted_mean_5", "n_deviation_5", "n_median_5", "n_distance_5"),
        *("n_contrast_d_2", "n_contrast_b_2", "n_contrast_d_7", "n_contrast_b_7"),
        *("n_p_local", "n_p_intercept", "n_p_slope_c", "n_p_slope_a"),
        *("n_q_local", "n_q_intercept", "n_q_slope_d"),
    )
    factors = (
        Factor(shape="exponential", inputs=("d", "a"), lengths=(1, 1)),
        Factor(shape="exponential", inputs=("d",), lengths=(1,)),
    )
    process = GaussianProcess(output="g", terms=(Term(variance=1, factors=factors),), weights="w")
    assert process.operand_names() == ("d", "a")
    assert process.table_names() == ("d", "a", "w")
    assert process.outputs == ("g",)
    assert reference_names((near, process)) == ("a", "b", "d", "c")


def test_as_many_neighbours_are_searched_as_any_part_of_a_step_asks_for() -> None:
    assert Neighbours(output="n", inputs=("a",)).searched == 1
    assert Neighbours(output="n", inputs=("a",), counts=(2, 8)).searched == 8
    assert Neighbours(output="n", inputs=("a",), counts=(2,), contrasts=("b",), contrast_counts=(3, 9)).searched == 9
    regressions = (Regression(output="p", inputs=("b",), count=7), Regression(output="q", inputs=("b",), count=5))
    assert Neighbours(output="n", inputs=("a",), counts=(2,), regressions=regressions).searched == 7


def test_outside_distance_may_be_absent_or_zero() -> None:
    assert Neighbours(output="n", inputs=("a",)).outside_distance is None
    assert Neighbours(output="n", inputs=("a",), outside_distance=0).outside_distance == 0.0


def test_the_least_and_the_most_that_can_be_are_plans() -> None:
    many = tuple(f"c{place}" for place in range(64))
    names = many[:8]
    regressions = tuple(
        Regression(output=name, inputs=names, scales=(1.0,) * 8, count=64, ridge=LEAST_RIDGE) for name in names
    )
    step = Neighbours(
        output="n",
        inputs=names,
        scales=(1.0,) * 8,
        contrasts=names,
        contrast_counts=(1, 64),
        counts=(64,),
        softening=LEAST_SOFTENING,
        regressions=regressions,
    )
    factor = Factor(shape="exponential", inputs=many, lengths=(1.0,) * 64)
    process = GaussianProcess(output="g", terms=(Term(variance=1, factors=(factor,)),), constant=0, noise=0)
    references = References(rows=64, columns=(*many, "target", "weights"), steps=(step, process))
    plan = Plan(inputs=tuple(Input(name=name) for name in many), references=references, outputs=(*step.outputs, "g"))
    table = np.random.default_rng(1).normal(size=(64, 66))
    assert np.isfinite(CpuBackend().transform(plan.program(table), np.zeros((1, 64)))).all()


UNFITTED = [
    (Neighbours(output="s", inputs=("a",)), "scales"),
    (
        Neighbours(
            output="s",
            inputs=("a",),
            scales=(1.0,),
            regressions=(
                Regression(output="p", inputs=("a",), scales=(1.0,), count=1),
                Regression(output="q", inputs=("a",), count=1),
            ),
        ),
        "regressions[1].scales",
    ),
    (
        GaussianProcess(
            output="s",
            terms=(
                Term(variance=1.0, factors=(Factor(shape="exponential", inputs=("a",), lengths=(1.0,)),)),
                Term(
                    variance=1.0,
                    factors=(
                        Factor(shape="exponential", inputs=("a",), lengths=(1.0,)),
                        Factor(shape="exponential", inputs=("a",)),
                    ),
                ),
            ),
        ),
        "terms[1].factors[1].lengths",
    ),
]


@pytest.mark.parametrize(("step", "field"), UNFITTED, ids=["scales", "scales of a regression", "lengths"])
def test_a_step_can_be_without_what_is_to_be_fitted_and_a_plan_cannot(step: AnyReferenceStep, field: str) -> None:
    assert step.unfitted() == field
    with pytest.raises(PlanError) as caught:
        References(rows=5, columns=("a", "target", "weights"), steps=(step,))
    assert str(caught.value) == f"reference step 's' ({step.op}): {field} is empty: the step has not been fitted"


def test_a_fitted_step_has_nothing_left_to_fit() -> None:
    assert [step.unfitted() for step in EVERY_REFERENCE.reference_steps] == [None, None]


def test_a_table_is_finite_float64_of_the_rows_and_columns_said() -> None:
    nearest = Neighbours(output="n", inputs=("a",), scales=(1.0,))
    references = References(rows=3, columns=("a", "target"), steps=(nearest,))
    table = np.arange(6.0).reshape(3, 2)
    for good in (table, np.asfortranarray(table), table[::-1]):
        references.check_table(good)
    wrong: list[Any] = [
        table.astype(np.float32), table.astype(">f8"), table.astype(int), table[:2], table[:, :1], table.T, table[0],
        table[None], np.empty((0, 2)),
    ]  # fmt: skip
    for bad in wrong:
        with pytest.raises(PlanError, match=r"references: the table must be float64\[3, 2\], got "):
            references.check_table(bad)
    for value in (math.nan, math.inf, -math.inf):
        hole = table.copy()
        hole[1, 1] = value
        with pytest.raises(PlanError, match="references: row 1, column 'target' of the table is not finite"):
            references.check_table(hole)


@settings(max_examples=40)
@given(referring_plans())
def test_a_stored_plan_is_the_same_plan_and_the_same_program(plan: Plan) -> None:
    text = plan.to_json()
    again = Plan.from_json(text)
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.to_json() == text
    assert plan.references is not None
    table = np.random.default_rng(1).normal(size=(plan.references.rows, len(plan.references.columns)))
    assert again.program(table) == plan.program(table)
    assert hash(again.program(table)) == hash(plan.program(table))


def test_lists_and_whole_numbers_equal_the_tuples_and_floats_of_json() -> None:
    regression: Any = {"output": "r", "inputs": ["a"], "scales": [3], "count": 2, "ridge": 1}
    lists: Any = {
        **{"inputs": ["a"], "scales": [2], "counts": [1], "contrasts": ["a"], "contrast_counts": [2]},
        **{"regressions": [Regression(**regression)], "softening": 2, "outside_distance": 0},
    }
    factor: Any = {"shape": "exponential", "inputs": ["a"], "lengths": [1]}
    terms: Any = [Term(variance=1, factors=[Factor(**factor)])]  # pyright: ignore[reportArgumentType]
    columns: Any = ["a", "target", "weights"]
    steps: Any = [Neighbours(output="n", **lists), GaussianProcess(output="g", terms=terms, constant=-0.0)]
    references = References(rows=5, columns=columns, steps=steps)
    plan = Plan(inputs=(Input(name="a"),), references=references, outputs=("n_nearest", "g", "n_mean_1"))
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.to_json() == plan.to_json()


def test_programs_differ_where_their_tables_do() -> None:
    table = stored(EVERY_REFERENCE)
    other = table.copy()
    other[7, 0] = np.nextafter(other[7, 0], np.inf)
    program = EVERY_REFERENCE.program(table)
    assert program == EVERY_REFERENCE.program(np.asfortranarray(table))
    assert program != EVERY_REFERENCE.program(other)
