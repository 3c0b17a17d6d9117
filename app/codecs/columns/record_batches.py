"""Record batches, which the Arrow, Parquet and CSV formats share: values to rows, and results to values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.codecs import categories
from app.codecs.batch_builder import BatchBuilder, keep_beyond
from app.codecs.categories import Codes
from app.codecs.classes import Labels, as_numbers
from app.codecs.result import LABEL, Result
from app.feature import Feature

PIECE_ROWS, PIECE_VALUES = 2**16, 2**22
"""Rows, and values of all columns, that are taken out of Arrow at a time. To take any costs microseconds for each
column, and a look-up of categories makes a hash table of all of them first; what comes of it takes memory beside the
rows."""


class Filler:
    """Adds the rows of record batches to a batch that is being built; a null is NaN.

    Args:
        builder: The batch to add to.
        places: Position of each feature's column, as `match_columns` gives it.
        codes: Finds the codes of a column of categories.
    """

    def __init__(
        self,
        builder: BatchBuilder,
        places: list[int | None],
        codes: Callable[[Feature, Any], Codes] = categories.codes,
    ) -> None:
        self._builder = builder
        self._codes = codes
        self._places = places
        self._coded = [
            (column, feature, place)
            for column, (feature, place) in enumerate(zip(builder.features, places, strict=True))
            if feature.kind == "category" and place is not None
        ]
        self._dictionaries: dict[int, tuple[Any, Codes]] = {}

    def add(self, batch: Any) -> None:
        """Add the rows of a record batch.

        Raises:
            ArrowInvalid: A dictionary holds invalid values.
            ValueError: A row refers to no value of its dictionary.
        """
        builder = self._builder
        step = max(builder.block_rows, min(PIECE_ROWS, PIECE_VALUES // max(1, len(self._places))))
        lookups = {column: self._lookup(column, feature, batch.column(place)) for column, feature, place in self._coded}
        for first in range(0, batch.num_rows, step):
            piece = batch.slice(first, step)
            codes: dict[int, NDArray[np.float64]] = {}
            for column, _, place in self._coded:
                codes[column], unseen = lookups[column](piece.column(place))
                builder.note_unseen(column, unseen, builder.rows)
                builder.yield_gil()
            self._add_piece(piece, codes)

    def _add_piece(self, piece: Any, codes: dict[int, NDArray[np.float64]]) -> None:
        columns: list[NDArray[Any] | None] = [
            None if place is None else codes[column] if column in codes else _values(feature, piece.column(place))
            for column, (feature, place) in enumerate(zip(self._builder.features, self._places, strict=True))
        ]
        if all(column is None for column in columns):  # one column must tell the number of rows
            columns = [np.full(piece.num_rows, np.nan), *columns[1:]]
        self._builder.add_columns(columns)

    def _lookup(self, column: int, feature: Feature, values: Any) -> Callable[[Any], Codes]:
        """What finds the codes of a part of a column. The codes of a dictionary are found once."""
        if not pa.types.is_dictionary(values.type):
            return lambda part: self._codes(feature, part)
        dictionary = values.dictionary
        known = self._dictionaries.get(column)
        if known is None or not _is_same(known[0], dictionary):
            dictionary.validate(full=True)
            known = self._dictionaries[column] = dictionary, categories.codes(feature, dictionary)
        return lambda part: known[1].taken(*categories.places_of(part))


def validate(batch: Any) -> None:
    """Raise ArrowInvalid if a record batch is not valid; its dictionaries are left to the `Filler`."""
    if not any(map(pa.types.is_dictionary, batch.schema.types)):
        batch.validate(full=True)
        return
    batch.validate()
    for column in batch.columns:
        (column.indices if pa.types.is_dictionary(column.type) else column).validate(full=True)


def needs_kinds(features: tuple[Feature, ...], places: list[int | None], kinds: Sequence[Any]) -> bool:
    """Whether the values of some integer or boolean feature must be checked: its column has another Arrow type."""
    return any(
        place is not None
        and (
            (feature.kind == "integer" and not pa.types.is_integer(kinds[place]))
            or (feature.kind == "boolean" and not pa.types.is_boolean(kinds[place]))
        )
        for feature, place in zip(features, places, strict=True)
    )


def schema_of(result: Result) -> Any:
    """Arrow schema of a result: float64 and int32 columns, any labels, and the model's version in the metadata."""
    whole = result.whole
    fields = [(name, pa.int32() if name in whole else pa.float64()) for name in result.numbers]
    if result.labels is not None:
        fields.append((LABEL, label_array(result.labels).type))
    return pa.schema(fields, {"model_version": result.model_version})


def record_batch(result: Result, schema: Any, start: int, stop: int) -> Any:
    """Rows `start` to `stop` of a result as a record batch."""
    columns = [pa.array(values) for values in result.columns(start, stop).values()]
    if result.labels is not None:
        columns.append(label_array(result.labels).take(pa.array(result.class_indices(start, stop))))
    return pa.record_batch(columns, schema=schema)


def label_array(labels: Labels) -> Any:
    """Labels as an Arrow array of booleans, whole numbers or numbers; else of texts, which hold labels of any kind."""
    if all(isinstance(label, bool) for label in labels):
        return pa.array(labels, pa.bool_())
    whole = [int(label) for label in labels if isinstance(label, int)]
    if len(whole) == len(labels) and all(-(2**63) <= label < 2**63 for label in whole):
        return pa.array(whole, pa.int64())
    if as_numbers(labels) is not None:
        return pa.array([float(label) for label in labels], pa.float64())
    return pa.array([str(label) for label in labels], pa.string())


def _values(feature: Feature, column: Any) -> NDArray[Any]:
    """Values of a column of numbers or booleans: float64[b], or int64[b] and uint64[b] where they may be exact."""
    if pa.types.is_dictionary(column.type):
        column = _unpacked(column)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.string())  # Arrow's own cast to float64 is often not the nearest number
    long = feature.kind == "integer" and (pa.types.is_int64(column.type) or pa.types.is_uint64(column.type))
    if long and column.null_count == 0:
        return column.to_numpy()
    values = column if column.type == pa.float64() else column.cast(pa.float64(), safe=False)
    if values.null_count == 0:
        return values.to_numpy()
    numbers = values.fill_null(np.nan).to_numpy(zero_copy_only=False, writable=True)
    if long:
        keep_beyond(numbers, column.fill_null(0).to_numpy())
    return numbers


def _unpacked(column: Any) -> Any:
    """A dictionary column of numbers as an array of them; Arrow's own decoding does not check its places."""
    places, there = categories.places_of(column)
    if not len(column.dictionary):
        return pa.nulls(len(column), pa.float64())
    return column.dictionary.take(pa.array(places, mask=~there))


def _is_same(left: Any, right: Any) -> bool:
    """Whether two arrays are views of the same memory."""
    return left is right or (
        left.type == right.type
        and (len(left), left.offset) == (len(right), right.offset)
        and [_address(buffer) for buffer in left.buffers()] == [_address(buffer) for buffer in right.buffers()]
    )


def _address(buffer: Any) -> tuple[int, int] | None:
    return None if buffer is None else (buffer.address, buffer.size)
