"""Large answers until their clients have read them."""

import asyncio
import logging

from app.serving.admission import Reservation
from app.serving.connection import Address, acknowledged, cut

LEAST_BYTES = 1024
"""Bytes of a connection that count as reading; what keeps it alive has fewer."""

log = logging.getLogger(__name__)


class UnreadAnswer:
    """Counts an answer as rows in flight, and cuts the connection of a client that reads nothing of it.

    A client that reads has all the time that it needs. What it reads of other answers on the same connection counts.

    Args:
        reservation: Reservation of the answer.
        client: Address of the client.
        seconds: Time in which the client must read something.
    """

    def __init__(self, reservation: Reservation, client: Address, seconds: float) -> None:
        self._reservation = reservation
        self._client = client
        self._seconds = seconds
        self._read = 0
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        read = acknowledged(self._client)
        if read is None or read < self._read + LEAST_BYTES:
            log.warning("an answer was not read", extra={"client": self._client[0]})
            cut(self._client)  # which ends the call
            return
        self._read = read
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def end(self, _: object = None) -> None:
        """Count the answer no more, since the call has ended."""
        self._timer.cancel()
        self._reservation.__exit__(None, None, None)
