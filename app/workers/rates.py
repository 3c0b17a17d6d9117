"""The limit on requests of a client in a minute, counted over all workers in memory that they share.

Each worker writes to a table of its own and reads those of the others, so nobody waits for anybody. Minutes are the
same for all clients, since no worker knows when a client's first request came to another.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b

from app.predict.rate_limit import WINDOW_S, RateLimit
from app.workers.place import Place

SLOTS = 16_384
"""Clients in a table, about. Of more in a minute and worker, some are not limited."""

PROBES = 16
"""Slots that are tried for a client."""

WORDS = 1 + 2 * SLOTS
"""Words of 8 bytes of a table: its minute, then key and count of each slot."""


class SharedRateLimit(RateLimit):
    """A `RateLimit` over all workers.

    Args:
        limit: Requests a client may make in a minute.
        place: Where the workers meet.
        size: Number of workers.
        clock: Seconds that never go back, the same in all workers; a test passes its own.
    """

    def __init__(self, limit: int, place: Place, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(limit, clock)
        self._now = clock
        tables = 2 * size  # while a worker ends, another may be there in its place
        self._own = place.index % tables
        descriptor = os.open(place.directory / "rates", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, 8 * WORDS * tables)
            words = memoryview(mmap.mmap(descriptor, 8 * WORDS * tables)).cast("Q")
        finally:
            os.close(descriptor)
        self._tables = [words[WORDS * table : WORDS * (table + 1)] for table in range(tables)]

    def count(self, client: str) -> tuple[int, int]:
        """See `RateLimit.count`."""
        minute, passed = divmod(int(self._now()), WINDOW_S)
        digest = blake2b(client.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(digest, "little") | 1  # 0 is a free slot
        requests = self._add(key, minute)
        for index, table in enumerate(self._tables):
            if index != self._own and table[0] == minute:
                requests += _found(table, key)
        return requests, WINDOW_S - passed

    def _add(self, key: int, minute: int) -> int:
        """Count a request in the own table; requests of the client in it."""
        table = self._tables[self._own]
        if table[0] != minute:
            table[:] = memoryview(bytes(8 * WORDS)).cast("Q")
            table[0] = minute
        for slot in _slots(key):
            if table[slot] == key:
                table[slot + 1] += 1
                return table[slot + 1]
            if table[slot] == 0:
                table[slot + 1], table[slot] = 1, key  # the others see a key that has its count
                return 1
        return 1


def _found(table: "memoryview[int]", key: int) -> int:
    """Count of a key in a table; 0 where it has none."""
    for slot in _slots(key):
        if table[slot] == key:
            return table[slot + 1]
        if table[slot] == 0:
            return 0
    return 0


def _slots(key: int) -> Iterator[int]:
    """Words at which a key may be."""
    return (1 + 2 * ((key + probe) % SLOTS) for probe in range(PROBES))
