"""Many rows of columns that a kernel copies: the same batch and the same faults as of rows that are added as rows."""

import numpy as np
import pytest

from app.codecs.batch_builder import MANY_ROWS, BatchBuilder
from app.errors import InvalidInput
from app.feature import Feature

FEATURES = (
    Feature(name="x", physical_range=(0.0, 10.0)),
    Feature(name="missing", required=False),
    Feature(name="whole", kind="integer"),
    Feature(name="flag", kind="boolean", required=False),
    Feature(name="short", single=True),
)
ROWS = 3 * BatchBuilder(FEATURES, 1).block_rows + 1
assert ROWS > MANY_ROWS


def valid() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.column_stack(
        [rng.uniform(0, 10, ROWS), rng.normal(size=ROWS), rng.integers(-9, 9, ROWS), rng.integers(0, 2, ROWS),
         rng.normal(size=ROWS)]
    )  # fmt: skip


def by_rows(rows: np.ndarray) -> BatchBuilder:
    builder = BatchBuilder(FEATURES, ROWS, kinds=True)
    builder.add_rows(rows)
    return builder


def by_columns(rows: np.ndarray) -> BatchBuilder:
    builder = BatchBuilder(FEATURES, ROWS, kinds=True)
    builder.add_columns([np.ascontiguousarray(column) for column in rows.T])
    return builder


def test_the_batch_is_that_of_rows() -> None:
    rows = valid()
    rows[::7, 1] = np.nan
    assert np.array_equal(by_columns(rows).matrix(), by_rows(rows).matrix(), equal_nan=True)


@pytest.mark.parametrize("row", [0, ROWS - 1])
@pytest.mark.parametrize(
    ("column", "value"),
    [(0, 10.5), (0, np.nan), (1, np.inf), (2, 0.5), (2, 2.0**53 + 2), (3, 2.0), (4, 1e300), (4, np.nan)],
)
def test_the_faults_are_those_of_rows(column: int, value: float, row: int) -> None:
    rows = valid()
    rows[row, column] = value
    with pytest.raises(InvalidInput) as expected:
        by_rows(rows).matrix()
    with pytest.raises(InvalidInput) as found:
        by_columns(rows).matrix()
    assert found.value.sentences() == expected.value.sentences()
