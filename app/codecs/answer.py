"""What a bulk request is answered with, before a format makes bytes of it."""

from collections.abc import Iterator

import msgspec
import numpy as np

from app.codecs.table import FloatArray

PIECE_ROWS = 65_536
"""Rows that are encoded at a time, so that an answer of any size costs little memory on its way out."""


class Answer(msgspec.Struct, frozen=True):
    """Predictions of one model for a batch.

    Attributes:
        prediction: float64[B], or float64[B, K] for K > 1 outputs.
        half_widths: float64[B], of the intervals about float64[B] predictions; None where there are none.
        model_version: The model's.
    """

    prediction: FloatArray
    half_widths: FloatArray | None
    model_version: str

    @property
    def rows(self) -> int:
        """B."""
        return len(self.prediction)

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns: `prediction`, or `prediction_0` to `prediction_{K-1}`; then `lower` and `upper`, if any."""
        if self.prediction.ndim == 2:
            return tuple(f"prediction_{k}" for k in range(self.prediction.shape[1]))
        return ("prediction",) if self.half_widths is None else ("prediction", "lower", "upper")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that `matrix` gives of all rows."""
        return self.prediction.shape if self.half_widths is None else (self.rows, 3)

    def columns(self, start: int, stop: int) -> dict[str, FloatArray]:
        """float64[stop - start] by name, C-contiguous."""
        part = self.prediction[start:stop]
        values = [np.ascontiguousarray(column) for column in (part.T if part.ndim == 2 else (part,))]
        if self.half_widths is not None:
            half = self.half_widths[start:stop]
            values += [part - half, part + half]
        return dict(zip(self.names, values, strict=True))

    def matrix(self, start: int, stop: int) -> FloatArray:
        """Rows as one C-contiguous array: float64[b], float64[b, K], or float64[b, 3] with the bounds."""
        if self.half_widths is None:
            return np.ascontiguousarray(self.prediction[start:stop])
        return np.column_stack(tuple(self.columns(start, stop).values()))

    def pieces(self, rows: int = PIECE_ROWS) -> Iterator[tuple[int, int]]:
        """The first row of each piece and the one after its last; none where there are no rows."""
        return ((start, min(start + rows, self.rows)) for start in range(0, self.rows, rows))
