"""Reading, evaluation and answering of many rows, in one thread where that is quickest."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from app.codecs.gil_yield import GilTurns
from app.codecs.rules import FloatArray
from app.headers import Headers
from app.models.served import ServedModel
from app.predict.body import SMALL_BODY_BYTES, Body
from app.serving.admission import Reservation
from app.serving.executor import Executor, PredictionType
from app.serving.needs import Needs
from app.telemetry.stages import Stages
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


class Call(Protocol):
    """A request whose body is read: of HTTP, an `Exchange`."""

    @property
    def request_id(self) -> str:
        """Id of the request."""
        ...

    @property
    def headers(self) -> Headers:
        """Headers of the request by name."""
        ...

    @property
    def begun(self) -> float:
        """When the request began, by `time.perf_counter`."""
        ...

    @property
    def stages(self) -> Stages:
        """Stages that the request has passed through, which whoever does a stage adds to."""
        ...

    async def body(
        self, limit: int, setting: str, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        reservation: Reservation | None = None,
    ) -> Body:  # fmt: skip
        """Read the body, as `Exchange.body` does."""
        ...

    def watch(self) -> None:
        """End the request when the client disconnects, from now on."""
        ...


R = TypeVar("R", bound=Rows)
A = TypeVar("A")
Turn = AbstractContextManager[None]

VALUE_BYTES = 64
"""Bytes of a body that take as long to read as a contribution takes to write."""

NO_TURN: Turn = nullcontext()
"""For work that releases the GIL."""


class Reader(NamedTuple, Generic[R, A]):
    """How a request of many rows is read and answered: the difference between a batch and bulk.

    Attributes:
        kind: Gives the kind of a request with so many rows, for metrics and log.
        needs: What the request needs beside predictions, which its rows tell where its body does.
        limit: Most bytes of the body.
        setting: Name of that limit.
        decode: Reads the body.
        decode_turn: Entered by a thread that decodes.
        answer: Makes the answer, given the rows and their evaluation.
        answer_turn: Entered by a thread that makes the answer.
        is_packed: Whether a small body may hold many rows.
    """

    kind: Callable[[int], PredictionType]
    needs: Needs | Callable[[R], Needs]
    limit: int
    setting: str
    decode: Callable[[Body], R]
    decode_turn: Turn
    answer: Callable[[R, Evaluation], A]
    answer_turn: Turn
    is_packed: bool = False

    def needs_of(self, table: R) -> Needs:
        """What decoded rows need beside predictions."""
        return self.needs if isinstance(self.needs, Needs) else self.needs(table)


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

    async def predict(self, exchange: Call, served: ServedModel, reader: Reader[R, A], reservation: Reservation) -> A:
        """Read and predict many rows: the policy that batch and bulk share.

        A large request is refused before its body is read, if it would wait too long. A small body of few rows is read
        and answered on the event loop. Others wait in the queue for a thread, and are given up when the caller leaves.
        The thread that reads them also evaluates and answers them, unless they are more than their bytes told, or worth
        several threads or a device.
        """
        executor, stages, clock = self._executor, exchange.stages, time.perf_counter
        if isinstance(reader.needs, Needs):
            reservation.weigh(*executor.weight(served, reader.needs))
        body = await exchange.body(reader.limit, reader.setting, executor.in_thread, reservation)
        is_small = len(body) <= SMALL_BODY_BYTES
        if is_small and not reader.is_packed:
            begun = clock()
            table = reader.decode(body)
            stages.append(("decode", begun, clock()))
        else:
            if not is_small:
                reservation.join_queue()
            exchange.watch()
            whole = partial(self._whole, served, reader, body, reservation.rows, stages, clock())
            del body  # all of it will be in the rows
            table, seconds, answer = await executor.in_thread(whole)
            del whole
            if answer is not None:
                executor.count(served, reader.kind(table.size), len(table.rows), seconds)
                reservation.leave_queue()
                return answer
        needs, kind = reader.needs_of(table), reader.kind(table.size)
        times, values = executor.weight(served, needs)
        reservation.weigh(times, values)
        reservation.reserve(table.size)
        if table.rows.nbytes + VALUE_BYTES * values * len(table.rows) <= SMALL_BODY_BYTES:
            if not executor.is_cheap(served, len(table.rows), needs):
                reservation.join_queue()
            evaluation = await executor.predict(served, table.rows, kind, needs, stages)
            begun = clock()
            answer = reader.answer(table, evaluation)
            stages.append(("encode", begun, clock()))
        else:
            reservation.join_queue()
            exchange.watch()
            evaluation = await executor.predict(served, table.rows, kind, needs, stages)
            answer = await executor.in_thread(partial(_answer, reader, table, evaluation, stages, clock()))
        reservation.leave_queue()  # how fast the client reads its answer is nobody else's wait
        return answer

    def _whole(
        self, served: ServedModel, reader: Reader[R, A], body: Body, most_rows: int, stages: Stages, queued: float
    ) -> tuple[R, float, A | None]:
        """The rows of a body; and the seconds of their evaluation, and their answer, if one thread does it all."""
        started = time.perf_counter()
        with reader.decode_turn:
            table = reader.decode(body)
        begun = time.perf_counter()
        stages.extend((("queue", queued, started), ("decode", started, begun)))
        if table.size > most_rows:
            return table, 0.0, None
        evaluation = self._executor.evaluate_here(served, table.rows, reader.needs_of(table))
        if evaluation is None:
            return table, 0.0, None
        ended = time.perf_counter()
        stages.append(("evaluate", begun, ended))
        return table, ended - begun, _answer(reader, table, evaluation, stages, ended)


def _answer(reader: Reader[R, A], table: R, evaluation: Evaluation, stages: Stages, queued: float) -> A:
    """Make the answer in a thread, which was asked for it at the time `queued`."""
    started = time.perf_counter()
    with reader.answer_turn:
        answer = reader.answer(table, evaluation)
    stages.extend((("queue", queued, started), ("encode", started, time.perf_counter())))
    return answer
