"""Pauses of a core: times in which the hypervisor, or an interrupt, keeps even the most urgent thread from it.

    python -m benchmarks.fleet.pauses CORE SECONDS

A thread with real-time priority sleeps for a millisecond again and again. Where it wakes late, the core was away.
Prints the pauses in ms, as JSON; none where real-time priority is not allowed, since it would wait for other threads.
"""

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

PERIOD_S = 1e-3
LEAST_S = 3e-4
"""Less is the time that it takes to wake."""


def pauses(core: int, seconds: float) -> list[float]:
    """Pauses of a core in ms within so many seconds; a pause has begun half a period before, in the mean.

    This thread has real-time priority and no other core from then on, and so have those that it starts: it belongs in a
    process of its own.
    """
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    except PermissionError:
        return []
    with suppress(OSError):  # the 50 µs that Linux may let a sleeper wait longer
        Path("/proc/self/timerslack_ns").write_text("1")
    found: list[float] = []
    now = time.monotonic()
    end = now + seconds
    while now < end:
        due = now + PERIOD_S
        time.sleep(PERIOD_S)
        now = time.monotonic()
        if now - due > LEAST_S:
            found.append(round(1e3 * (now - due + PERIOD_S / 2), 3))
    return found


if __name__ == "__main__":
    print(json.dumps(pauses(int(sys.argv[1]), float(sys.argv[2]))))
