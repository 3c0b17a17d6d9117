"""Lines of CSV as record batches, all cells of which are text, so that kept ones stay as they are."""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from app.score.json_lines import BLOCK_BYTES, LINE
from app.score.options import ScoreRefused
from app.score.packed import without_packing

COMMA, TAB = ",", "\t"

HEADER_BYTES = 2**18
"""Most bytes of the header of a CSV file."""

OTHER_CELLS = "has another number of cells than the header"

MOST_RAGGED = 2**22
"""Most rows in succession with another number of cells than the header. Arrow gives none of them until a good one."""

RAGGED_ROWS = 65_536
"""Rows of a record batch that has no good row."""


def delimiter_of(path: str, given: str | None) -> str:
    """What is between the cells of a file of CSV by its name, unless it is given."""
    return given or (TAB if PurePath(without_packing(path)).suffix.lower() == ".tsv" else COMMA)


def read_cells(file: BinaryIO, delimiter: str = COMMA) -> Iterator[Any]:
    """The schema of a CSV file, then its record batches, with the places of the rows that cannot be read: bool[B].

    A row with another number of cells than the header is one of nulls, at its place.

    Raises:
        ScoreRefused: The header cannot be read.
        pyarrow.ArrowException: A row cannot be read.
    """
    names = _header(file, delimiter)
    schema = pa.schema([(name, pa.string()) for name in names])
    yield schema
    ragged = _Ragged(schema)
    try:
        reader = arrow_csv.open_csv(
            file,
            # With threads, Arrow would not tell the numbers of rows.
            read_options=arrow_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False, column_names=names),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=ragged.note
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" not in str(error):
            raise
        # There is no line but the header, or no good one.
    else:
        with reader:
            for batch in reader:
                yield from ragged.runs()
                if batch.num_rows:
                    yield ragged.placed(batch)
    yield from ragged.runs()
    if ragged.left:
        yield ragged.placed(pa.RecordBatch.from_pylist([], schema))


class _Ragged:
    """Rows with another number of cells than the header, which Arrow tells while it reads ahead, and leaves out.

    Each comes with the next good row after it, or in a record batch of such rows only, so that the same file always
    gives the same record batches.

    Args:
        schema: Columns of the file.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._rows: deque[int] = deque()  # by number from 0, without empty lines
        self._next = 0

    @property
    def left(self) -> int:
        """Number of rows that have not come yet."""
        return len(self._rows)

    def note(self, row: Any) -> str:
        """What Arrow is to do with a row that it cannot read: leave it out, unless they are too many."""
        self._rows.append(row.number - 1)
        return "skip" if len(self._rows) <= MOST_RAGGED else "error"

    def runs(self) -> Iterator[Any]:
        """Record batches of `RAGGED_ROWS` such rows, as many of them as come next in succession."""
        while self.left >= RAGGED_ROWS and self._rows[RAGGED_ROWS - 1] == self._next + RAGGED_ROWS - 1:
            for _ in range(RAGGED_ROWS):
                self._rows.popleft()
            self._next += RAGGED_ROWS
            yield self._spread(pa.RecordBatch.from_pylist([], self._schema), np.ones(RAGGED_ROWS, np.bool_))

    def placed(self, batch: Any) -> tuple[Any, NDArray[np.bool_]]:
        """A record batch of good rows with the others before its last one; those at the end, if it has no rows."""
        places: list[int] = []
        good = batch.num_rows
        while self._rows and (not good or self._rows[0] - self._next - len(places) < good):
            places.append(self._rows.popleft() - self._next)
        bad = np.zeros(good + len(places), np.bool_)
        bad[places] = True
        self._next += len(bad)
        return self._spread(batch, bad) if places else (batch, bad)

    def _spread(self, batch: Any, bad: NDArray[np.bool_]) -> tuple[Any, NDArray[np.bool_]]:
        return batch.take(pa.array(np.cumsum(~bad) - 1, pa.int64(), mask=bad)), bad


def unread_of(bad: NDArray[np.bool_]) -> dict[tuple[str, str], list[int]]:
    """Rows that cannot be read, by column and reason."""
    places = np.flatnonzero(bad).tolist()
    return {(LINE, OTHER_CELLS): places} if places else {}


def _header(file: BinaryIO, delimiter: str) -> list[str]:
    """Names of the columns of a CSV file, which may have line ends in quotes."""
    left = HEADER_BYTES

    def lines() -> Iterator[str]:
        nonlocal left
        while True:
            line = file.readline(left + 1)
            left -= len(line)
            if left < 0 or not line.endswith(b"\n"):
                raise ScoreRefused(f"A CSV file needs a header of at most {HEADER_BYTES} bytes, with an end of line.")
            yield line.decode("utf-8-sig")

    try:
        return next(csv.reader(lines(), delimiter=delimiter))
    except UnicodeDecodeError:
        raise ScoreRefused("The header of the CSV file is not in UTF-8.") from None
    except csv.Error as error:
        raise ScoreRefused(f"The header of the CSV file cannot be read: {error}.") from None
