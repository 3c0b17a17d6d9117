"""Reading, evaluation and answering of many rows, in one thread where that is quickest."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

from app.codecs.gil_yield import GilTurns
from app.codecs.rules import FloatArray
from app.models.served import ServedModel
from app.predict.body import Body, declared_bytes
from app.predict.exchange import SMALL_BODY_BYTES, Exchange
from app.serving.admission import Reservation
from app.serving.executor import Executor, PredictionType
from kernels.engine import Evaluation


class Rows(Protocol):
    """Rows of a body."""

    @property
    def rows(self) -> FloatArray:
        """float64[B, F], the rows that can be predicted."""
        ...

    @property
    def size(self) -> int:
        """Number of all rows, also those that are not valid."""
        ...


R = TypeVar("R", bound=Rows)
A = TypeVar("A")
Turn = AbstractContextManager[None]

NO_TURN: Turn = nullcontext()
"""For work that releases the GIL."""


class Reader(NamedTuple, Generic[R, A]):
    """How a request of many rows is read and answered: the difference between a batch and bulk.

    Attributes:
        kind: Kind of the request, for metrics and log.
        raw_score: Whether the request asks for raw scores.
        limit: Most bytes of the body.
        setting: Name of that limit.
        decode: Reads the body.
        decode_turn: Entered by a thread that decodes.
        answer: Makes the answer, given the rows and their evaluation.
        answer_turn: Entered by a thread that makes the answer.
    """

    kind: PredictionType
    raw_score: bool
    limit: int
    setting: str
    decode: Callable[[Body], R]
    decode_turn: Turn
    answer: Callable[[R, Evaluation], A]
    answer_turn: Turn


class ManyRows:
    """Answers requests of many rows.

    Args:
        executor: Evaluates the rows.

    Attributes:
        turns: Turns of the threads that decode or write JSON.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.turns = GilTurns()

    async def predict(
        self, exchange: Exchange, served: ServedModel, reader: Reader[R, A], reservation: Reservation
    ) -> A:
        """Read and predict many rows: the policy that batch and bulk share.

        A large request is refused before its body is read, if it would wait too long. A small body is read and answered
        on the event loop. A large one waits in the queue for a thread, and is given up when the caller leaves. The
        thread that reads it also evaluates and answers it, unless its rows are worth several threads or a device.
        """
        if (declared := declared_bytes(exchange.headers) or 0) > SMALL_BODY_BYTES:
            reservation.expect_bytes(declared)
        body = await exchange.body(reader.limit, reader.setting, self._executor.in_thread, reservation)
        if len(body) <= SMALL_BODY_BYTES:
            table = reader.decode(body)
            reservation.reserve(table.size)
            if not self._executor.is_cheap(served, len(table.rows)):
                reservation.join_queue()
            evaluation = await self._executor.predict(served, table.rows, reader.kind, reader.raw_score)
            return reader.answer(table, evaluation)
        reservation.join_queue()
        async with exchange.watched():
            whole = partial(self._whole, served, reader, body)
            del body  # all of it will be in the rows
            table, seconds, answer = await self._executor.in_thread(whole)
            del whole
            if answer is not None:
                self._executor.count(served, reader.kind, len(table.rows), seconds)
                return answer
            reservation.reserve(table.size)
            evaluation = await self._executor.predict(served, table.rows, reader.kind, reader.raw_score)
            return await self._executor.in_thread(partial(_answer, reader, table, evaluation))

    def _whole(self, served: ServedModel, reader: Reader[R, A], body: Body) -> tuple[R, float, A | None]:
        """The rows of a body; and the seconds of their evaluation, and their answer, if one thread does it all."""
        with reader.decode_turn:
            table = reader.decode(body)
        begun = time.perf_counter()
        evaluation = self._executor.evaluate_here(served, table.rows, reader.raw_score)
        if evaluation is None:
            return table, 0.0, None
        seconds = time.perf_counter() - begun
        return table, seconds, _answer(reader, table, evaluation)


def _answer(reader: Reader[R, A], table: R, evaluation: Evaluation) -> A:
    with reader.answer_turn:
        return reader.answer(table, evaluation)
