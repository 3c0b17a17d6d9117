"""What a load generator is to ask and when, and what came of it; and the generator as a process of its own."""

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
    """What is asked, and when.

    Attributes:
        port: Of the server, on loopback.
        requests: Whole HTTP/1.1 requests, asked for one after the other, and then again.
        starts: For each of them, or none at all, what the body of a right answer begins with.
        connections: At most so many at a time.
        seconds: Of a closed loop. Every connection asks at least once.
        arrivals: Of an open loop, seconds from the start when each request is due, ascending.
        patience: Seconds after the end in which answers are waited for.
        give_up: Seconds after which a request that waits for a connection is not sent any more.
        keep: Number of bytes of each answer's body that the record keeps.
    """

    port: int
    requests: list[bytes]
    starts: list[bytes] = []
    connections: int = 1
    seconds: float = 1.0
    arrivals: list[float] | None = None
    patience: float = 30.0
    give_up: float = math.inf
    keep: int = 0


class Record(NamedTuple):
    """What came of a plan's requests.

    Attributes:
        due: float64[N], monotonic seconds when each was to be sent; in a closed loop, when it was sent.
        sent: float64[N]; NaN where it never was.
        answered: float64[N], when the whole answer was there; NaN where none came.
        status: int64[N], `DROPPED` where no answer came.
        right: bool[N], whether the body began as it was to.
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
        """bool[N], whether it was answered with 200 and what was to be answered."""
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
    """A generator that runs, in a process of its own."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._record = directory / "record.npz"
        (directory / "plan.msgpack").write_bytes(msgspec.msgpack.encode(plan))
        arguments = ["-m", "benchmarks.load.generator", str(directory / "plan.msgpack"), str(self._record)]
        self.process = subprocess.Popen([sys.executable, *arguments], cwd=Path(__file__).parents[2])

    def stop(self) -> None:
        """End a closed loop before its time."""
        self.process.terminate()

    def record(self) -> Record:
        """What came of it, once it has ended.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        if self.process.wait():
            raise subprocess.CalledProcessError(self.process.returncode, "benchmarks.load.generator")
        return read_record(self._record)


@contextmanager
def running(plan: Plan) -> Generator[Running, None, None]:
    """A generator that is ended with the context, if it has not ended by itself."""
    with TemporaryDirectory() as directory:
        started = Running(plan, Path(directory))
        try:
            yield started
        finally:
            if started.process.poll() is None:
                started.process.kill()
                started.process.wait()


def load(plan: Plan) -> Record:
    """Load as planned, from another process."""
    with running(plan) as started:
        return started.record()
