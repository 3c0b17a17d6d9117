"""Reading, scoring and writing side by side, in order and in bounded memory."""

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

from app.score.inputs import Piece
from app.score.scorer import Scored

MOST_BYTES = 2**27
"""Bytes of record batches that were read and are not yet written."""

CORES = len(os.sched_getaffinity(0))


class ScoredPiece(NamedTuple):
    """A piece and what came of it."""

    piece: Piece
    scored: Scored


class _Closed(Exception):
    """Nothing is wanted any more."""


class _Budget:
    """Bytes in flight; a piece larger than all of them goes alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._used or self._used + size <= self._most)
            if self._closed:
                raise _Closed
            self._used += size

    def give(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def score_pieces(
    pieces: Generator[Piece], score: Callable[[Piece], Scored], *, most_bytes: int = MOST_BYTES, threads: int = CORES
) -> Generator[ScoredPiece]:
    """Score pieces in threads, while others are read and written; they come in their order.

    Args:
        pieces: What a thread of its own reads, and closes.
        score: Scores a piece, in one of the threads.
        most_bytes: Bytes in flight.
        threads: Threads that score.

    Raises:
        Exception: What the reader or `score` raises.
    """
    budget, queue = _Budget(most_bytes), SimpleQueue[tuple[Piece, int, Future[Any]] | Exception | None]()
    with ThreadPoolExecutor(threads, thread_name_prefix="score") as pool:

        def read() -> None:
            end: Exception | None = None
            try:
                with closing(pieces):
                    for piece in pieces:
                        size = piece.batch.nbytes
                        budget.take(size)
                        queue.put((piece, size, pool.submit(score, piece)))
            except _Closed:
                return
            except Exception as error:
                end = error
            queue.put(end)

        reader = threading.Thread(target=read, name="read", daemon=True)
        reader.start()
        try:
            while (item := queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                piece, size, future = item
                yield ScoredPiece(piece, future.result())
                budget.give(size)
        finally:
            budget.close()
            pool.shutdown(wait=False, cancel_futures=True)
            with suppress(RuntimeError):
                reader.join(timeout=10)
