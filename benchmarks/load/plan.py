"""Plan and record of a load, and the load generator as a process of its own."""

import math
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of a load, and when they are sent.

    Attributes:
        port: Port of the server, on loopback.
        requests: Whole HTTP/1.1 requests, sent one after the other, and then again.
        starts: First bytes of the body of each request's right answer; empty for no check.
        connections: Largest number of connections.
        seconds: Length of a closed loop. Every connection sends at least one request.
        arrivals: Seconds from the start at which each request of an open loop is due, ascending; None: a closed loop.
        begin: Monotonic seconds from which arrivals count, so that several generators begin together. One that is not
            ready by then begins at once.
        patience: Seconds after the end for which the generator waits for answers.
        give_up: Seconds after which a request that waits for a connection is dropped.
        keep: Number of bytes of each answer's body that the record keeps.
        fresh: Whether each request has a connection of its own.
    """

    port: int
    requests: list[bytes]
    starts: list[bytes] = []
    connections: int = 1
    seconds: float = 1.0
    arrivals: list[float] | None = None
    begin: float = 0.0
    patience: float = 30.0
    give_up: float = math.inf
    keep: int = 0
    fresh: bool = False


class Record(NamedTuple):
    """Outcome of a plan's requests.

    Attributes:
        due: float64[N], monotonic seconds when each was to be sent; in a closed loop, when it was sent.
        sent: float64[N]; NaN where it never was.
        answered: float64[N], when the whole answer was there; NaN where none came.
        status: int64[N], `DROPPED` where no answer came.
        right: bool[N], whether the body began with its `Plan.starts`.
        cpu_share: Processor time of the generator over the time that it ran.
        seconds: From the start to the last answer.
        kept: bytes_[N], the first `Plan.keep` bytes of each body.
    """

    due: NDArray[np.float64]
    sent: NDArray[np.float64]
    answered: NDArray[np.float64]
    status: NDArray[np.int64]
    right: NDArray[np.bool_]
    cpu_share: float
    seconds: float
    kept: NDArray[np.bytes_] = np.empty(0, np.bytes_)

    def ok(self) -> NDArray[np.bool_]:
        """bool[N], whether a request had status 200 and a right body."""
        return (self.status == 200) & self.right


def write_record(path: Path, record: Record) -> None:
    np.savez(path, **record._asdict())


def read_record(path: Path) -> Record:
    with np.load(path) as found:
        arrays: dict[str, Any] = {name: found[name] for name in Record._fields}
    for name in ("cpu_share", "seconds"):
        arrays[name] = float(arrays[name])
    return Record(**arrays)


class Running:
    """Load generator that runs in a process of its own."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._record = directory / "record.npz"
        (directory / "plan.msgpack").write_bytes(msgspec.msgpack.encode(plan))
        arguments = ["-m", "benchmarks.load.generator", str(directory / "plan.msgpack"), str(self._record)]
        self.process = subprocess.Popen([sys.executable, *arguments], cwd=Path(__file__).parents[2])

    def stop(self) -> None:
        """End a closed loop before its time."""
        self.process.terminate()

    def record(self) -> Record:
        """Wait for the end of the load, and return its record (subprocess.CalledProcessError: it failed)."""
        if self.process.wait():
            raise subprocess.CalledProcessError(self.process.returncode, "benchmarks.load.generator")
        return read_record(self._record)


@contextmanager
def running(plan: Plan) -> Generator[Running, None, None]:
    """Load generator that is killed when the context ends, unless it has ended by itself."""
    with TemporaryDirectory() as directory:
        started = Running(plan, Path(directory))
        try:
            yield started
        finally:
            if started.process.poll() is None:
                started.process.kill()
                started.process.wait()


def load(plan: Plan) -> Record:
    """Run a plan in another process."""
    with running(plan) as started:
        return started.record()
