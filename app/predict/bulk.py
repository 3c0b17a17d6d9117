"""Answers of bulk requests: tables that are made and sent part by part, while their clients read."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from app.codecs.formats import Format
from app.codecs.rules import Buffer, FloatArray
from app.models.identity import ModelIdentity
from app.models.served import ServedModel
from app.predict.exchange import WHOLE_ANSWER_BYTES, Exchange
from app.predict.query import Asked
from app.predict.result import table_answer
from kernels.engine import Evaluation


class Table(NamedTuple):
    """Rows of a bulk body, all of which are valid."""

    rows: FloatArray

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)


class TableBody(NamedTuple):
    """Body of an answer, of which the first part is made.

    Attributes:
        part: First part.
        ended: Whether that is all of it.
        pieces: Rest of the body.
        held: Bytes that are held until the rest is made.
    """

    part: bytes
    ended: bool
    pieces: Iterator[Buffer]
    held: int


class BulkAnswer(NamedTuple):
    """The answer for a table.

    Attributes:
        rows: float64[B, F], the rows that were predicted.
        evaluation: Evaluation of these rows.
        body: Body of the answer, which needs neither of them.
    """

    rows: FloatArray
    evaluation: Evaluation
    body: TableBody


def bulk_answer(served: ServedModel, wanted: Format, asked: Asked, table: Table, evaluation: Evaluation) -> BulkAnswer:
    """Begin the answer for a table.

    Raises:
        PredictionNotFinite: The model has no finite answer to some of the rows.
    """
    result = table_answer(served, evaluation, asked)
    result.check_finite()
    pieces = iter(wanted.encode(result))
    part, ended = _collect(pieces)
    held = len(part) if ended else len(part) + result.nbytes
    return BulkAnswer(table.rows, evaluation, TableBody(part, ended, pieces, held))


def identity_headers(identity: ModelIdentity) -> tuple[tuple[bytes, bytes], ...]:
    """Headers that name the model that answered, for answers whose body does not."""
    return (b"x-model-version", identity.version.encode()), (b"x-model-stage", (identity.stage or "").encode())


async def send_table(
    exchange: Exchange, identity: ModelIdentity, media_type: str, body: TableBody,
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
) -> None:  # fmt: skip
    """Send a table: whole, or as a stream of parts where it is large.

    Args:
        exchange: The request.
        identity: The model that answered.
        media_type: Format of the table.
        body: Its body.
        in_thread: Runs work in a thread.
    """
    headers = identity_headers(identity)
    part, ended, pieces, _ = body
    if ended:
        await exchange.answer(part, media_type.encode(), headers=headers)
        return
    await exchange.begin(media_type.encode(), 200, headers)
    while not ended:
        await exchange.send(part, more=True)
        part, ended = await in_thread(partial(_collect, pieces))
    await exchange.send(part, more=False)


def _collect(pieces: Iterator[Buffer]) -> tuple[bytes, bool]:
    """Join the next pieces up to WHOLE_ANSWER_BYTES or a bit more; and whether they were the last."""
    parts: list[Buffer] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(memoryview(piece).cast("B"))
        if size >= WHOLE_ANSWER_BYTES:
            return b"".join(parts), False
    return b"".join(parts), True
