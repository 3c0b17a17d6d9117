"""Group commit: one flush of the disk for all requests that came while it flushed for others.

A thread of its own appends to the spool, and flushes it. A request waits for a future; the thread never waits for a
request, and there is no timer.
"""

import asyncio
import errno
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from app.errors import PredictionLogUnavailable
from app.prediction_log.spool.segments import Spool, SpoolFull

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
IS_FULL = "The prediction could not be logged: the disk is full."
IS_AT_BOUND = "The prediction could not be logged: rows of PREDICTION_LOG_SPOOL_BYTES wait to be written."
IS_NOT_WRITTEN = "The prediction could not be logged: the disk does not take it."

log = logging.getLogger(__name__)


class _Group:
    """Requests that are flushed together.

    Attributes:
        records: Records of the requests.
        models: Record of each model that they name, by its number.
        waiting: The requests' futures.
        rows: Number of their rows.
    """

    __slots__ = ("models", "records", "rows", "waiting")

    def __init__(self) -> None:
        self.records = bytearray()
        self.models: dict[int, bytes] = {}
        self.waiting: list[asyncio.Future[None]] = []
        self.rows = 0


class GroupCommit:
    """Appends records to a spool, for requests on an event loop.

    Args:
        spool: The spool, which is open.
        loop: The event loop.
        observe: Called on the loop with the seconds that each append took.

    Attributes:
        fault: Name of the error that the last append met.
    """

    def __init__(self, spool: Spool, loop: asyncio.AbstractEventLoop, observe: Callable[[float], None]) -> None:
        self.fault: str | None = None
        self._spool = spool
        self._loop = loop
        self._observe = observe
        self._turns: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._group: _Group | None = None
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, record: bytes, rows: int, number: int, model: bytes) -> asyncio.Future[None]:
        """Have a record appended and flushed; on the event loop only.

        Args:
            record: Record of a request.
            rows: Number of rows in it.
            number: Number of the model that it names.
            model: Record of that model.

        Returns:
            Done when the record is on the disk. It raises PredictionLogUnavailable if it cannot be.
        """
        future = self._loop.create_future()
        with self._lock:
            group = self._group
            if group is None:
                group = self._group = _Group()
                self._loop.call_soon(self._turns.put, True)  # once all requests of this turn of the loop are in it
            group.records += record
            group.models[number] = model
            group.waiting.append(future)
            group.rows += rows
        return future

    def close(self) -> None:
        """Append what has come, and end the thread."""
        self._turns.put(False)
        self._thread.join()

    def _run(self) -> None:
        """Append and flush group after group."""
        goes_on = True
        while goes_on:
            goes_on = self._turns.get()
            with self._lock:
                group, self._group = self._group, None
            if group is not None:
                begun = time.perf_counter()
                reason = self._append(group)
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._finish, group, reason, time.perf_counter() - begun)

    def _append(self, group: _Group) -> str | None:
        """Append the records of a group; the reason why they could not be."""
        try:
            self._spool.append(group.records, group.rows, group.models)
        except SpoolFull:
            self._note("SpoolFull")
            return IS_AT_BOUND
        except OSError as error:
            self._note(errno.errorcode.get(error.errno or 0, type(error).__name__))
            return IS_FULL if error.errno in NO_ROOM else IS_NOT_WRITTEN
        except Exception as error:  # a fault of ours, after which the thread must go on and requests must not wait
            log.exception("appending to the spool failed")
            self._note(type(error).__name__)
            return IS_NOT_WRITTEN
        self._note(None)
        return None

    def _finish(self, group: _Group, reason: str | None, seconds: float) -> None:
        """Let the requests of a group go on."""
        self._observe(seconds)
        for future in group.waiting:
            if future.done():  # the request has ended
                continue
            if reason is None:
                future.set_result(None)
            else:
                future.set_exception(PredictionLogUnavailable(reason))

    def _note(self, fault: str | None) -> None:
        """Keep the last fault, and log a new one."""
        if self.fault != fault:
            if fault is None:
                log.info("the prediction log takes rows again")
            else:
                log.error("the prediction log takes no rows, and requests are refused", extra={"error": fault})
        self.fault = fault
