"""Predictions for a bulk request, before a format encodes them."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.codecs.classes import Labels, class_indices, probabilities
from app.codecs.rules import FloatArray
from app.errors import FieldError, PredictionNotFinite

PIECE_ROWS, PIECE_VALUES = 65_536, 2**21
"""Most rows, and most numbers, encoded at a time, so that an answer of any size takes little memory."""

LABEL = "label"
"""Name of the column of labels."""


class Columns(NamedTuple):
    """Columns of one kind beside the predictions.

    Attributes:
        places: Place of each column by its name, in order.
        values: float64[B, N] or int32[B, N].
    """

    places: dict[str, int]
    values: NDArray[Any]

    @property
    def is_whole(self) -> bool:
        """Whether the numbers are whole ones."""
        return self.values.dtype.kind == "i"


class Result(msgspec.Struct, frozen=True):
    """Predictions of one model for a batch.

    Attributes:
        prediction: float64[B], or float64[B, K] for K > 1 outputs.
        half_widths: float64[B], half widths of the predictions' intervals; None without intervals.
        model_version: Version of the model.
        labels: Label of each class, for an answer with the label of each row; None without.
        probabilities: Whether the answer has the probability of each class.
        raw_score: Raw scores in the shape of `prediction`, for an answer that has them; None without.
        further: Further columns of numbers.
    """

    prediction: FloatArray
    half_widths: FloatArray | None
    model_version: str
    labels: Labels | None = None
    probabilities: bool = False
    raw_score: FloatArray | None = None
    further: tuple[Columns, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows, B."""
        return len(self.prediction)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        further = (columns.values for columns in self.further)
        arrays = (self.prediction, self.half_widths, self.raw_score, *further)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns: those of `numbers`, then any `label`."""
        return self.numbers if self.labels is None else (*self.numbers, LABEL)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the columns of numbers.

        They are `prediction` or `prediction_0` to `prediction_{K-1}`, then any `lower` and `upper`, `probability_0` to
        `probability_{C-1}`, `raw_score` or `raw_score_0` to `raw_score_{K-1}`, and the further ones.
        """
        return tuple(self._views(0, 0))

    @property
    def whole(self) -> frozenset[str]:
        """Names of the columns of whole numbers."""
        return frozenset(name for columns in self.further if columns.is_whole for name in columns.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `matrix` for all rows."""
        width = len(self.numbers)
        return (self.rows,) if width == 1 else (self.rows, width)

    def columns(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Columns of numbers by name, each float64[stop - start] or int32[stop - start], C-contiguous."""
        return {name: np.ascontiguousarray(values) for name, values in self._views(start, stop).items()}

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """One column: float64[stop - start], or object[stop - start] for that of labels."""
        if name == LABEL:
            return self.labels_of(start, stop)
        for columns in self.further:  # of which there may be hundreds
            if name in columns.places:
                return columns.values[start:stop, columns.places[name]]
        return self._views(start, stop)[name]

    def class_indices(self, start: int, stop: int) -> NDArray[np.intp]:
        """Index of each row's label: intp[stop - start]."""
        return class_indices(self.prediction[start:stop], self.labels or ())

    def labels_of(self, start: int, stop: int) -> NDArray[np.object_]:
        """Label of each row: object[stop - start]."""
        return np.array(self.labels, dtype=object)[self.class_indices(start, stop)]

    def matrix(self, start: int, stop: int) -> FloatArray:
        """Columns of numbers as one C-contiguous array: float64[b] for a single one, else float64[b, columns]."""
        if self.half_widths is None and not self.probabilities and self.raw_score is None and not self.further:
            return np.ascontiguousarray(self.prediction[start:stop])
        return np.column_stack(tuple(self._views(start, stop).values()))

    def _views(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Columns of numbers by name, as views where they need not be computed."""
        part = self.prediction[start:stop]
        views: dict[str, NDArray[Any]] = _by_name("prediction", part)
        if self.half_widths is not None:
            half = self.half_widths[start:stop]
            views |= {"lower": part - half, "upper": part + half}
        if self.probabilities:
            views |= _by_name("probability", probabilities(part))
        if self.raw_score is not None:
            views |= _by_name("raw_score", self.raw_score[start:stop])
        for columns in self.further:
            views |= {name: columns.values[start:stop, place] for name, place in columns.places.items()}
        return views

    def pieces(self, rows: int | None = None) -> Iterator[tuple[int, int]]:
        """First row of each piece, and the one after its last.

        Args:
            rows: Most rows of a piece; None for as many as are encoded at a time.
        """
        if rows is None:
            width = 1 + sum(len(columns.places) for columns in self.further)
            rows = max(1, min(PIECE_ROWS, PIECE_VALUES // width))
        return ((start, min(start + rows, self.rows)) for start in range(0, self.rows, rows))

    def finite(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Rows whose columns are all finite: bool[stop - start]."""
        value = self.prediction[start:stop]
        if self.half_widths is not None:
            with np.errstate(over="ignore"):  # the size of the farther bound, which exceeds the prediction's
                value = np.abs(value) + np.abs(self.half_widths[start:stop])
        finite = _all_finite(value)
        if self.raw_score is not None:
            finite = finite & _all_finite(self.raw_score[start:stop])
        for columns in self.further:
            if not columns.is_whole:
                finite = finite & _all_finite(columns.values[start:stop])
        return finite

    def faults(self, row: int) -> tuple[FieldError, ...]:
        """Errors for the columns of a row that are not finite; the others are left out if the prediction is not."""
        with np.errstate(invalid="ignore", over="ignore"):
            values = {name: column.item() for name, column in self.columns(row, row + 1).items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        predictions = [name for name in bad if name.startswith("prediction")]
        return tuple(FieldError(name, f"is {values[name]}, not a finite number") for name in predictions or bad)

    def check_finite(self) -> None:
        """Raise PredictionNotFinite, naming the first such row, if any row is not finite."""
        rows, first = 0, 0
        for start, stop in self.pieces():
            finite = self.finite(start, stop)
            if not finite.all():
                first = first if rows else start + int(np.argmin(finite))
                rows += len(finite) - int(np.count_nonzero(finite))
        if rows:
            more = f" in row {first}, the first of {rows} such rows"
            errors = tuple(FieldError(fault.field, fault.message + more) for fault in self.faults(first))
            raise PredictionNotFinite(f"The model has no finite answer to row {first}.", errors, rows, self.rows)


def _by_name(name: str, values: FloatArray) -> dict[str, FloatArray]:
    """Columns of float64[b], under this name, or of float64[b, K], under the name with a number."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}


def _all_finite(values: FloatArray) -> NDArray[np.bool_]:
    """Rows of float64[b] or float64[b, K] that are finite: bool[b]."""
    finite = np.isfinite(values)
    return finite if finite.ndim == 1 else np.asarray(finite.all(axis=1))
