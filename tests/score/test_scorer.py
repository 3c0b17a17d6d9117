"""Record batches scored as the service scores rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from app.score.options import ScoreOptions, ScoreRefused
from app.score.scorer import Scorer
from tests.score.support import bundled, houses

ROWS = 300


@pytest.fixture
def batch() -> Any:
    return houses(ROWS).to_batches()[0]


def matrix(batch: Any) -> NDArray[np.float64]:
    return np.column_stack([batch.column(name).to_numpy() for name in bundled().feature_names])


def damaged(batch: Any, row: int) -> Any:
    incomes = batch.column("MedInc").to_numpy().copy()
    incomes[row] = np.inf
    return batch.set_column(batch.schema.names.index("MedInc"), "MedInc", pa.array(incomes))


def test_predictions_stand_behind_the_columns_that_are_no_features(batch: Any) -> None:
    scored = Scorer(bundled()).score(batch)
    assert scored.schema.names == ["id", "prediction"]
    assert np.array_equal(scored.column("prediction"), bundled().engine.predict(matrix(batch)))
    assert scored.column("id").equals(batch.column("id"))


def test_bounds_and_contributions_are_those_of_the_service(batch: Any) -> None:
    scored = Scorer(bundled(), ScoreOptions(keep=(), level=0.9, explain=True)).score(batch)
    table = {name: scored.column(name).to_numpy() for name in scored.schema.names}
    evaluation, intervals = bundled().engine.evaluate(matrix(batch)), bundled().artifact.intervals
    assert intervals is not None
    assert evaluation.difficulty is not None
    half = intervals.half_width(evaluation.difficulty, 0.9)
    assert np.array_equal(table["lower"], evaluation.prediction - half)
    assert np.array_equal(table["upper"], evaluation.prediction + half)
    added = sum(values for name, values in table.items() if name.startswith("contribution:"))
    assert np.allclose(added + table["base_value"], table["prediction"], rtol=1e-9)


def test_the_largest_contributions_are_named(batch: Any) -> None:
    everything = Scorer(bundled(), ScoreOptions(keep=(), explain=True)).score(batch).to_pylist()
    top = Scorer(bundled(), ScoreOptions(keep=(), explain=True, top=2)).score(batch).to_pylist()
    for row, shown in zip(everything, top, strict=True):
        added = {name.partition(":")[2]: value for name, value in row.items() if name.startswith("contribution:")}
        largest = sorted(added, key=lambda name: -abs(added[name]))[:2]
        assert [shown["feature_1"], shown["feature_2"]] == largest
        assert [shown["contribution_1"], shown["contribution_2"]] == [added[name] for name in largest]


def test_a_bad_row_fails_has_nulls_or_is_left_out(batch: Any) -> None:
    bad, right = damaged(batch, 17), Scorer(bundled()).score(batch)
    with pytest.raises(ScoreRefused, match="row 17: MedInc must be a finite number"):
        Scorer(bundled()).score(bad)
    nulls = Scorer(bundled(), ScoreOptions(on_error="null")).score(bad)
    assert nulls.column("prediction")[17].as_py() is None
    assert nulls.filter(nulls.column("prediction").is_valid()).equals(
        right.filter(pa.array(np.arange(ROWS) != 17)))  # fmt: skip
    skipped = Scorer(bundled(), ScoreOptions(on_error="skip")).score(bad)
    assert skipped.equals(right.filter(pa.array(np.arange(ROWS) != 17)))


def test_text_is_read_as_the_service_reads_csv(batch: Any) -> None:
    cells = [[repr(value) for value in column.to_pylist()] for column in batch.columns]
    cells[batch.schema.names.index("HouseAge")][3] = "old"
    text = pa.record_batch([pa.array(column, pa.string()) for column in cells], names=batch.schema.names)
    scored = Scorer(bundled(), ScoreOptions(on_error="null")).scored(text, text=True)
    right = Scorer(bundled()).score(batch).column("prediction").to_pylist()
    right[3] = None
    assert scored.batch.column("prediction").to_pylist() == right
    assert (scored.bad.rows, [fault.row for fault in scored.bad.first]) == (1, [3])
    assert "old" not in scored.bad.described()


def test_columns_are_renamed(batch: Any) -> None:
    theirs = batch.rename_columns(["income" if name == "MedInc" else name for name in batch.schema.names])
    renamed = Scorer(bundled(), ScoreOptions(renamed={"income": "MedInc"})).score(theirs)
    assert renamed.equals(Scorer(bundled()).score(batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ScoreOptions(level=0.77), "no intervals of level 0.77"),
        (ScoreOptions(labels=True), "no labels"),
        (ScoreOptions(renamed={"a": "b"}), "no feature of the model: b"),
        (ScoreOptions(keep=("nothing",)), "has no column nothing, which is to be kept"),
        (ScoreOptions(renamed={"missing": "MedInc"}), "no column missing"),
    ],
)
def test_what_the_model_or_the_input_does_not_have_is_refused(options: ScoreOptions, message: str, batch: Any) -> None:
    with pytest.raises(ScoreRefused, match=message):
        Scorer(bundled(), options).score(batch)


def test_no_rows_are_scored_too(batch: Any) -> None:
    options = ScoreOptions(level=0.9, explain=True, top=3)
    some = Scorer(bundled(), options).score(batch)
    assert Scorer(bundled(), options).score(batch.slice(0, 0)).schema == some.schema


def test_a_damaged_column_is_refused_also_if_it_is_only_kept(batch: Any) -> None:
    damaged = pa.DictionaryArray.from_arrays(pa.array([99] * ROWS, pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(ScoreRefused, match="A record batch is damaged"):
        Scorer(bundled(), ScoreOptions(keep=("id",))).score(batch.set_column(0, "id", damaged))
