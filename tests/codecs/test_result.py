"""Results: named columns of any slice of rows."""

import numpy as np

from app.codecs.result import Result


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
