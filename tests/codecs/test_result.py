"""Results: named columns of any slice of rows."""

import numpy as np
import pyarrow as pa
import pytest

from app.codecs.columns import arrow
from app.codecs.result import PIECE_VALUES, Columns, Result
from app.feature import Category


def test_one_output_is_one_column() -> None:
    answer = Result(np.array([1.0, 2.0, 3.0]), None, "7")
    assert (answer.rows, answer.names, answer.shape) == (3, ("prediction",), (3,))
    assert {name: values.tolist() for name, values in answer.columns(1, 3).items()} == {"prediction": [2.0, 3.0]}


def test_intervals_are_two_more_columns() -> None:
    answer = Result(np.array([1.0, 2.0]), np.array([0.5, 0.25]), "7")
    columns = {"prediction": [1.0, 2.0], "lower": [0.5, 1.75], "upper": [1.5, 2.25]}
    assert (answer.names, answer.shape) == (tuple(columns), (2, 3))
    assert {name: values.tolist() for name, values in answer.columns(0, 2).items()} == columns
    assert answer.matrix(0, 2).tolist() == [[1.0, 0.5, 1.5], [2.0, 1.75, 2.25]]


def test_many_outputs_are_a_column_each() -> None:
    answer = Result(np.array([[0.1, 0.9], [0.4, 0.6]]), None, "7")
    assert (answer.names, answer.shape) == (("prediction_0", "prediction_1"), (2, 2))
    columns = answer.columns(0, 2)
    assert columns["prediction_1"].tolist() == [0.9, 0.6]
    assert all(values.flags.c_contiguous for values in columns.values())


def test_pieces_cover_all_rows_once() -> None:
    answer = Result(np.zeros(10), None, "7")
    assert list(answer.pieces(4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(answer.pieces(10)) == [(0, 10)]
    assert list(Result(np.zeros(0), None, "7").pieces()) == []


def test_labels_are_a_column_of_the_most_probable_classes() -> None:
    answer = Result(np.array([0.2, 0.5, 0.7]), None, "7", labels=("no", "yes"))
    assert (answer.names, answer.numbers, answer.shape) == (("prediction", "label"), ("prediction",), (3,))
    assert answer.labels_of(0, 3).tolist() == answer.column("label", 0, 3).tolist() == ["no", "no", "yes"]
    assert answer.labels_of(2, 3).tolist() == ["yes"]


def test_probabilities_and_raw_scores_are_columns_of_numbers() -> None:
    two = Result(np.array([0.25, 0.5, 1.0]), None, "7", probabilities=True)
    assert (two.names, two.shape) == (("prediction", "probability_0", "probability_1"), (3, 3))
    assert two.matrix(0, 3).tolist() == [[0.25, 0.75, 0.25], [0.5, 0.5, 0.5], [1.0, 0.0, 1.0]]
    scores = Result(np.array([[0.5, 0.5]]), None, "7", raw_score=np.array([[1.0, 2.0]]))
    assert scores.names == ("prediction_0", "prediction_1", "raw_score_0", "raw_score_1")
    assert scores.matrix(0, 1).tolist() == [[0.5, 0.5, 1.0, 2.0]]
    assert scores.column("raw_score_1", 0, 1).tolist() == [2.0]


def test_a_raw_score_that_is_not_finite_is_a_fault() -> None:
    answer = Result(np.array([1.0, 0.5]), None, "7", raw_score=np.array([np.inf, 0.0]))
    assert answer.finite(0, 2).tolist() == [False, True]
    assert [fault.field for fault in answer.faults(0)] == ["raw_score"]


def test_further_columns_follow_and_make_pieces_smaller() -> None:
    wide = Columns({f"leaf_{place}": place for place in range(999)}, np.zeros((10_000, 999), dtype=np.int32))
    numbers = Columns({"a": 0, "b": 1}, np.array([[0.5, np.inf]] * 10_000))
    answer = Result(np.zeros(10_000), None, "7", further=(numbers, wide))
    assert answer.names[:4] == ("prediction", "a", "b", "leaf_0")
    assert answer.whole == wide.places.keys()
    rows = PIECE_VALUES // (1 + 2 + 999)
    assert next(answer.pieces()) == (0, rows)
    assert answer.matrix(0, 3).shape == (3, 1002)
    assert answer.column("b", 2, 4).tolist() == [np.inf] * 2
    assert not answer.finite(0, 1)[0]
    assert [fault.field for fault in answer.faults(0)] == ["b"]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ((False, True), pa.bool_()), ((0, 1), pa.int64()), ((0, 1.5), pa.float64()), (("no", "yes"), pa.string()),
        ((False, 2), pa.int64()), ((-1, 2**63), pa.float64()), ((1, "one"), pa.string()),
        ((0, 2**64 - 1), pa.string()),
    ],
)  # fmt: skip
def test_arrow_has_a_type_for_every_kind_of_labels(labels: tuple[Category, ...], kind: object) -> None:
    answer = Result(np.array([0.0, 1.0]), None, "7", labels=labels)
    schema = arrow.schema_of(answer)
    assert schema.field("label").type == kind
    column = arrow.record_batch(answer, schema, 0, 2).column("label").to_pylist()
    assert column == ([str(label) for label in labels] if kind == pa.string() else list(labels))
