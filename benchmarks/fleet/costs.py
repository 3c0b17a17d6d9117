"""What capacity is computed from, measured on this machine: one row, a bulk request, a look, a start.

A row keeps the event loop of a busy service for as long as the service answers no other one: the processor time of its
thread, and its waits for the interpreter's lock. The distribution is that of the processor time of single requests.
"""

import http.client
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import numpy as np
import psutil
from mlflow import MlflowClient
from numpy.typing import NDArray

from app.models.registry.publish import ALIAS
from benchmarks.bodies import FORMATS, content_of
from benchmarks.contenders import MODEL_NAME, Peer
from benchmarks.fleet.cores import Work
from benchmarks.load.closed_loop import Asked
from benchmarks.load.open_loop import open_plan
from benchmarks.load.plan import Plan, load
from benchmarks.rows import make_rows

BULK_ROWS = 1000
BULK_CONNECTIONS = 2
SATURATION_CONNECTIONS = 64
PAUSE_S = 0.002
QUANTILES = 200
PROBED = 0.1
"""Share of what a replica can answer that probes for stalls take."""
STALL = 4.0
"""A request that takes so many times the median was stalled."""
LOOK_CONNECTIONS = 8
ADMIN_KEY = "capacity"
ACCESS = re.compile(r'"(GET|POST) (/api/\S+) HTTP')
"""A request in the registry's log."""


class Row(msgspec.Struct, frozen=True):
    """Cost of a request with one row.

    Attributes:
        loop_us: Quantiles of the time for which it keeps the event loop, equally likely; their mean belongs to
            `saturation_per_s`.
        hot: Processor time over 64 connections, where threads hardly ever sleep.
        base_us: Median from sending to answer in a replica that has little to do, without the time on the loop.
        stalls_per_s: Stalls a second: times in which nothing is answered, for whatever reason.
        stalls_ms: Their lengths, equally likely.
        saturation_per_s: Requests a second over 64 connections.
    """

    loop_us: list[float]
    hot: Work
    base_us: float
    stalls_per_s: float
    stalls_ms: list[float]
    saturation_per_s: float

    @property
    def loop_s(self) -> float:
        """Mean seconds on the event loop."""
        return 1e-6 * float(np.mean(self.loop_us))


class Bulk(msgspec.Struct, frozen=True):
    """Cost of a bulk request with so many rows: processor time on the event loop, and in threads."""

    rows: int
    loop_us: float
    thread_us: float


class Look(msgspec.Struct, frozen=True):
    """Cost of a look into the registry.

    Attributes:
        requests: HTTP requests of one look.
        registry_s: Time of the registry for them, when it is busy.
        seconds: Time of a look that starts the model process.
        warm_seconds: Time of a look while the model process runs.
        cpu_s: Processor time of the model process that it starts.
        swap_s: Time to put another version in service, whose costs of batches are known, beyond that of the look.
    """

    requests: int
    registry_s: float
    seconds: float
    warm_seconds: float
    cpu_s: float
    swap_s: float


class Start(msgspec.Struct, frozen=True):
    """Seconds from a process's start until it is ready.

    Attributes:
        empty: With an empty DATA_DIR: kernels are compiled.
        kernels: With compiled kernels alone.
        again: With the whole DATA_DIR of an earlier process.
        download: Fetching of the model from the registry, in a start with kernels.
        load: All that follows until it is in service.
    """

    empty: float
    kernels: float
    again: float
    download: float
    load: float


class Costs(msgspec.Struct, frozen=True):
    """All costs."""

    row: Row
    bulk: Bulk
    look: Look
    start: Start


class Threads(NamedTuple):
    """Processor time in s of the event loops of processes, and of their other threads."""

    loop: float
    others: float


def threads_of(*pids: int) -> Threads:
    """Times of the processes' threads until now; an event loop runs in the main thread (Linux's schedstat)."""
    loop = others = 0.0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            seconds = 1e-9 * int((task / "schedstat").read_text().split()[0])
            if task.name == str(pid):
                loop += seconds
            else:
                others += seconds
    return Threads(loop, others)


def difference(after: tuple[float, ...], before: tuple[float, ...]) -> Any:
    """Difference of each time."""
    return type(after)(*(late - early for late, early in zip(after, before, strict=True)))


def measure_row(peer: Peer, what: Asked, seconds: float) -> Row:
    """Cost of one row (PeerError: an answer was wrong)."""
    pid = peer.worker().pid
    load(what.plan(peer.port, SATURATION_CONNECTIONS, seconds))  # warms up
    before = threads_of(pid)
    record = load(what.plan(peer.port, SATURATION_CONNECTIONS, 2 * seconds))
    used, count = difference(threads_of(pid), before), len(record.due)
    single = single_times(peer, what, pid, int(seconds / PAUSE_S / 2))
    saturation = count / record.seconds
    delays = probe(peer, what, saturation, 2 * seconds)
    generator = record.cpu_share * record.seconds
    return Row(
        loop_us=(1e6 / saturation * quantiles(single) / single.mean()).round(1).tolist(),
        hot=Work(*(1e6 * spent / count for spent in (generator, used.others, used.loop))),
        base_us=max(0.0, delays.middle_us - 1e6 / saturation),
        stalls_per_s=delays.stalls_per_s,
        stalls_ms=delays.stalls_ms,
        saturation_per_s=saturation,
    )


class Delays(NamedTuple):
    """Median of the time of a request in µs, stalls a second, and their lengths in ms, equally likely."""

    middle_us: float
    stalls_per_s: float
    stalls_ms: list[float]


def probe(peer: Peer, what: Asked, saturation: float, seconds: float) -> Delays:
    """What few requests wait for, in a replica that has little to do."""
    record = load(open_plan(peer, what, PROBED * saturation, seconds))
    taken = record.answered - record.sent
    middle = float(np.median(taken))
    lengths = taken[taken > STALL * middle] - middle
    if not len(lengths):
        return Delays(1e6 * middle, 0.0, [])
    # A probe is stalled if a stall begins before it is answered, or has begun before and is not over.
    rate = len(lengths) / len(taken) / (middle + float(lengths.mean()))
    return Delays(1e6 * middle, rate, (1e3 * quantiles(lengths)).round(3).tolist())


def single_times(peer: Peer, what: Asked, pid: int, count: int) -> NDArray[np.float64]:
    """float64[count], processor seconds of the event loop for single requests, with a pause after each."""
    times: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", peer.port)
    for number in range(count):
        request = what.requests[number % len(what.requests)]
        before = threads_of(pid).loop
        connection.request("POST", "/predict", content_of(request), {"Content-Type": "application/json"})
        connection.getresponse().read()
        time.sleep(PAUSE_S)
        times.append(threads_of(pid).loop - before)
    connection.close()
    return np.array(times)


def quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[QUANTILES] equally likely values of a distribution."""
    return np.quantile(values, (np.arange(QUANTILES) + 0.5) / QUANTILES)


def measure_bulk(peer: Peer, seconds: float) -> Bulk:
    """Cost of a table of Arrow, two at a time."""
    pid, arrow = peer.worker().pid, FORMATS[0]
    plan = Plan(
        port=peer.port, requests=[arrow.request(make_rows(BULK_ROWS, 4))], connections=BULK_CONNECTIONS, seconds=seconds
    )
    load(plan)
    before = threads_of(pid)
    record = load(plan)
    assert record.ok().all()
    used, count = difference(threads_of(pid), before), len(record.due)
    return Bulk(BULK_ROWS, 1e6 * used.loop / count, 1e6 * used.others / count)


def model_process(peer: Peer) -> psutil.Process:
    """The process of a replica that asks the registry."""
    children = psutil.Process(peer.worker().pid).children()
    return next(child for child in children if "app.models.process.worker" in child.cmdline())


def measure_look(peer: Peer, registry: Peer, versions: tuple[str, str], seconds: float) -> Look:
    """Cost of a look, asked for as an operator does, and of the registry's answers to it.

    Args:
        peer: A replica.
        registry: Its registry.
        versions: Two versions of the model, the first of them in service.
        seconds: Length of the load on the registry.
    """
    assert registry.log is not None
    seen = len(registry.log.read_text())
    with httpx.Client(base_url=peer.url, headers={"X-API-Key": ADMIN_KEY}, timeout=60, trust_env=False) as client:

        def look() -> float:
            begun = time.monotonic()
            client.post("/health/model/reload").raise_for_status()
            return time.monotonic() - begun

        look()
        asked = ACCESS.findall(registry.log.read_text()[seen:])
        warm = min(look() for _ in range(5))
        swaps: list[float] = []
        for version in (versions[1], versions[0]):
            MlflowClient(registry.url, registry.url).set_registered_model_alias(MODEL_NAME, ALIAS, version)
            swaps.append(look() - warm)
        cold: list[float] = []
        for _ in range(3):
            model_process(peer).kill()  # as if it had ended after 30 idle seconds
            cold.append(look())
        times = model_process(peer).cpu_times()
    requests = [
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{registry.port}\r\n\r\n".encode() for method, path in asked
    ]
    record = load(Plan(port=registry.port, requests=requests, connections=LOOK_CONNECTIONS, seconds=seconds))
    assert (record.status == 200).all()
    return Look(
        requests=len(asked),
        registry_s=len(asked) * record.seconds / len(record.due),
        seconds=float(np.median(cold)),
        warm_seconds=warm,
        cpu_s=times.user + times.system,
        swap_s=float(np.median(swaps)),
    )
