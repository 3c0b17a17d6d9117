"""A row alone gets the bits that it gets in a batch, for any plan and any forest; else it goes the batches' way."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.backend import Pipeline
from kernels.cpu.backend import CpuBackend
from kernels.cpu.single import evaluate, single_row
from kernels.engine import Engine, Evaluation
from kernels.forest.forest import Forest
from kernels.forest.layout import lay_out
from kernels.forest.model_text import read_model_text
from kernels.forest.status import RowKernel
from kernels.plan.plan import Plan
from kernels.rows import as_rows, writable_rows
from tests.kernels.forest.boosters import Split, assert_same_bits, hard_rows, model_text, model_texts, tree_text
from tests.kernels.plan.plans import EVERY_REFERENCE, EVERY_STEP, california, plans, stored

ROW_KERNELS: tuple[RowKernel, ...] = ("quickscorer", "traversal")


def assert_alike(pipeline: Pipeline, rows: np.ndarray) -> None:
    """Each row alone gets what it gets in the batch."""
    single = single_row(pipeline)
    assert single is not None
    expected = CpuBackend().evaluate(pipeline, rows)
    for index in range(len(rows)):
        prediction, difficulty, distance = single.evaluate(writable_rows(rows[index : index + 1]))
        assert_same_bits(np.array(prediction), expected.predictions[0][index])
        if len(expected.predictions) > 1:
            assert_same_bits(np.array(difficulty), expected.predictions[1][index])
        else:
            assert difficulty is None
        if expected.distance is None:
            assert distance is None
        else:
            assert_same_bits(np.array(distance), expected.distance[index].astype(np.float64))


@settings(max_examples=settings.default.max_examples // 2)
@given(text=model_texts(most_nodes=500), seed=st.integers(0, 99))
def test_any_forest_gives_a_row_the_bits_of_a_batch(text: str, seed: int) -> None:
    layout = lay_out(read_model_text(text))
    rows = hard_rows(text, 120, seed)[seed % 10 :: 10]
    for kernel in ROW_KERNELS:
        assert_alike(Pipeline(None, (Forest(layout, kernel),)), rows)


def stumps(features: int, objective: str = "regression", outputs: int = 1, **changes: bool) -> Forest:
    """A tree of one split for each feature, and for each output one that has a leaf alone."""
    trees = [tree_text([Split(feature, 0.5, 0)], [0], [-1.0 - feature, 2.5]) for feature in range(features)]
    trees += [tree_text([], [], [0.25 * number]) for number in range(-features % outputs)]
    return Forest(lay_out(read_model_text(model_text(trees, features, outputs, objective, **changes))))


@given(plan=plans(), data=st.data())
def test_any_plan_gives_a_row_the_bits_of_a_batch(plan: Plan, data: st.DataObject) -> None:
    rows = data.draw(arrays(np.float64, (3, len(plan.inputs)), elements=st.floats()))
    forest = stumps(len(plan.outputs))
    for distance in (None, len(plan.outputs) - 1):
        assert_alike(Pipeline(plan.program(), (forest, forest), distance), rows)


@pytest.mark.parametrize(
    "forest",
    [
        stumps(4, "binary sigmoid:0.7"),
        stumps(4, "poisson"),
        stumps(4, "cross_entropy_lambda"),
        stumps(4, "multiclass num_class:3", 3),
        stumps(4, "multiclassova num_class:3 sigmoid:1", 3),
        stumps(4, "regression sqrt"),
        stumps(4, average=True),
    ],
    ids=lambda forest: f"{forest.objective} {forest.n_outputs}",
)
def test_scores_become_predictions_as_in_a_batch(forest: Forest) -> None:
    assert_alike(Pipeline(None, (forest,)), california(20)[:, :4])


def test_the_table_goes_on_when_its_arrays_owners_are_gone() -> None:
    rows = writable_rows(california(1)[:, :4])
    single = single_row(Pipeline(None, (stumps(4),)))
    assert single is not None
    expected = single.evaluate(rows)
    gc.collect()
    [np.full(2000, 7.0) for _ in range(1000)]  # what was freed is written over
    assert single.evaluate(rows) == expected


def test_pipelines_that_gain_nothing_are_left_to_batches() -> None:
    forest = stumps(len(EVERY_REFERENCE.outputs))
    assert single_row(Pipeline(EVERY_REFERENCE.program(stored(EVERY_REFERENCE)), (forest,))) is None
    text = model_text([tree_text([], [], [1.0])], 1)
    assert single_row(Pipeline(None, (Forest.from_model_text(text, "sliced"),))) is None


def test_an_engine_gives_a_row_alone_what_it_gives_a_batch() -> None:
    forest = stumps(len(EVERY_STEP.outputs))
    referring = stumps(len(EVERY_REFERENCE.outputs))
    engines = [
        Engine(forest, EVERY_STEP, difficulty=forest, device="cpu"),
        Engine(referring, EVERY_REFERENCE, stored(EVERY_REFERENCE), device="cpu"),
    ]
    for engine in engines:
        rows = as_rows(california(3), engine.n_inputs)
        for _ in range(2):  # before it is warmed up, and then
            expected = engine.evaluate_on_cpu(rows[:1]).single()
            assert engine.evaluate_single(rows[:1]) == engine.evaluate(rows[:1]).single() == expected
            engine.warm_up(rows)


def test_a_row_of_any_layout_is_taken_without_another_compilation() -> None:
    engine = Engine(stumps(4), device="cpu")
    engine.warm_up(california(3)[:, :4])
    compiled = len(evaluate.signatures)
    rows = np.array(california(2)[:, :4])
    expected = engine.evaluate_on_cpu(rows[:1]).single()
    for row in (rows[:1], np.asfortranarray(rows)[:1], rows[::2], np.array(rows[:1].tolist()), as_rows(rows[:1], 4)):
        assert engine.evaluate_single(row) == expected
    assert engine.evaluate_single(rows[:1].astype(np.float32)).prediction == expected.prediction
    assert len(evaluate.signatures) == compiled
    with pytest.raises(ValueError, match="shape"):
        engine.evaluate_single(rows[:1, :3])


def test_an_evaluation_is_the_same_as_a_batch_of_one() -> None:
    several = Evaluation(np.array([[1.0, 2.0]]), None, None, np.array([[0.5, -0.5]]))
    for evaluation in (several, Evaluation(np.array([1.0]), np.array([2.0]), np.array([3.0], dtype=np.float32))):
        for one, other in zip(evaluation.single().batch(), evaluation, strict=True):
            np.testing.assert_array_equal(one, other)
