"""Predictions for a bulk request, before a format encodes them."""

import math
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.codecs.rules import FloatArray
from app.errors import FieldError, PredictionNotFinite

PIECE_ROWS = 65_536
"""Rows encoded at a time, so that an answer of any size takes little memory."""


class Result(msgspec.Struct, frozen=True):
    """Predictions of one model for a batch.

    Attributes:
        prediction: float64[B], or float64[B, K] for K > 1 outputs.
        half_widths: float64[B], half widths of the predictions' intervals; None without intervals.
        model_version: Version of the model.
    """

    prediction: FloatArray
    half_widths: FloatArray | None
    model_version: str

    @property
    def rows(self) -> int:
        """Number of rows, B."""
        return len(self.prediction)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns: `prediction` or `prediction_0` to `prediction_{K-1}`, then any `lower` and `upper`."""
        if self.prediction.ndim == 2:
            return tuple(f"prediction_{k}" for k in range(self.prediction.shape[1]))
        return ("prediction",) if self.half_widths is None else ("prediction", "lower", "upper")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `matrix` for all rows."""
        return self.prediction.shape if self.half_widths is None else (self.rows, 3)

    def columns(self, start: int, stop: int) -> dict[str, FloatArray]:
        """Columns by name, each float64[stop - start], C-contiguous."""
        part = self.prediction[start:stop]
        values = [np.ascontiguousarray(column) for column in (part.T if part.ndim == 2 else (part,))]
        if self.half_widths is not None:
            half = self.half_widths[start:stop]
            values += [part - half, part + half]
        return dict(zip(self.names, values, strict=True))

    def matrix(self, start: int, stop: int) -> FloatArray:
        """Rows as one C-contiguous array: float64[b], float64[b, K], or float64[b, 3] with intervals."""
        if self.half_widths is None:
            return np.ascontiguousarray(self.prediction[start:stop])
        return np.column_stack(tuple(self.columns(start, stop).values()))

    def pieces(self, rows: int = PIECE_ROWS) -> Iterator[tuple[int, int]]:
        """First row of each piece of at most `rows` rows, and the one after its last."""
        return ((start, min(start + rows, self.rows)) for start in range(0, self.rows, rows))

    def finite(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Rows whose columns are all finite: bool[stop - start]."""
        value = self.prediction[start:stop]
        if self.half_widths is not None:
            with np.errstate(over="ignore"):  # the size of the farther bound, which exceeds the prediction's
                value = np.abs(value) + np.abs(self.half_widths[start:stop])
        finite = np.isfinite(value)
        return finite if finite.ndim == 1 else np.asarray(finite.all(axis=1))

    def faults(self, row: int) -> tuple[FieldError, ...]:
        """Errors for the columns of a row that are not finite; its bounds are left out if the prediction is not."""
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
            raise PredictionNotFinite(f"The model has no finite answer to row {first}.", errors, rows)
