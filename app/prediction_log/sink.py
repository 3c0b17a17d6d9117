"""What the process that writes the log writes to."""

from typing import Protocol

from sqlalchemy import exc

from app.prediction_log.engine import NewerSchema
from app.prediction_log.messages import LoggedPredictions


class Moved(Exception):
    """The position of a segment is not where this process left it."""


def fault_of(error: Exception) -> str:
    """Class of an error, without its text, which can hold the URL with its password."""
    return type(error.orig if isinstance(error, exc.DBAPIError) and error.orig else error).__name__


def explained(error: Exception) -> str:
    """Why the log cannot be used, as the end of a sentence that names no host."""
    if isinstance(error, NewerSchema):
        return "its tables have a newer schema than this release knows"
    return fault_of(error)


class Sink(Protocol):
    """A place for rows: a database, or files.

    Attributes:
        most_rows: Rows of one write from a spool.
        piece_bytes: Bytes of a spool that are read for it.
    """

    most_rows: int
    piece_bytes: int

    def write(self, batch: list[LoggedPredictions]) -> None:
        """Write the rows of a batch, all or none."""
        ...

    def position(self, segment: str) -> int:
        """Number of bytes of a segment whose rows are written; 0 for a segment that it does not know."""
        ...

    def is_due(self, size: int, seconds: float) -> bool:
        """Whether so many bytes of a segment, which wait for so long, should be written before more come."""
        ...

    def write_at(self, batch: list[LoggedPredictions], segment: str, start: int, end: int) -> None:
        """Write the rows between two positions of a segment, and move its position, both or neither."""
        ...

    def forget(self, segment: str) -> None:
        """Remove the position of a segment that is no more."""
        ...

    def turn(self) -> None:
        """Do what is due without rows, such as deleting old ones."""
        ...

    def pruned(self) -> int:
        """Number of old rows that were deleted since the last call."""
        ...

    def close(self) -> None:
        """Write what is held back, and close."""
        ...
