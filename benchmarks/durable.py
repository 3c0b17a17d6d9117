"""Rows that the prediction log loses when processes are killed, and what its forms cost.

    just bench durable [--kills 4] [--seconds 4] [--rounds 7] [--quick]

Method, kills: the service with the bundled model gets one row a request over 16 connections in a closed loop, each
request with an id of its own. At a random moment (fixed seed) processes are killed with SIGKILL: the writer of the log,
the service (its two processes; the writer goes on alone), or all of them. After a kill of the service it is started
again, and may write what its spool holds. Then it ends in order, and the ids that were answered with 200 are compared
with those in the database. A durable log loses none and has none twice. One by best effort loses what waited.

Method, cost: services without a log, with one by best effort and with a durable one, beside each other and loaded in
turns, round after round, in a closed loop; the ratio is the median of the ratios within each round. Then batches of 100
rows for the log by best effort, more than it can write.

The report goes to benchmarks/reports/durable.md and .json; with `--quick` to the cache.
"""

import argparse
import random
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.bodies import JSON, OBJECTS, ROW
from benchmarks.contenders import BUNDLED, Peer, Place, free_port, start, wait_ready
from benchmarks.load.plan import Plan, Record, load
from benchmarks.load.plan import running as loading
from benchmarks.pages.durable import page
from benchmarks.report import begin, context, parser, ratio, save, spread
from benchmarks.rows import make_rows

MODES = ("off", "best_effort", "durable")
VICTIMS = ("writer", "service", "all")
CONNECTIONS = 16
LOADS = (16, 64)
"""Numbers of connections for the cost: the more requests wait together, the fewer flushes each of them needs."""
MOST_PER_S = 20_000
"""Requests that are made for each second of load, each with its own id."""
DRAIN_TIMEOUT_S = 120.0
SEED = 20
PACKAGES = ("madrone", "granian", "sqlalchemy")


def requests(count: int) -> list[bytes]:
    """Requests of one row, each with its number for an id."""
    body = ROW.request(make_rows(1, 3)).partition(b"\r\n\r\n")[2]
    head = f"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
    return [f"{head}X-Request-ID: bench-{number:08d}\r\n\r\n".encode() + body for number in range(count)]


@contextmanager
def serving(mode: str, directory: Path, cache: Path) -> Generator[Peer, None, None]:
    """A service whose log, model and kernels are in the directory; it is stopped when the context ends."""
    place = Place(free_port(), directory, directory, BUNDLED.python(cache))
    peer = start(
        BUNDLED, place, PREDICTION_LOG=mode, DATA_DIR=str(directory / "data"), SHUTDOWN_DELAY="0",
        DATABASE_URL=f"sqlite:///{directory / 'predictions.db'}",
    )  # fmt: skip
    try:
        wait_ready(peer)
        yield peer
    finally:
        peer.stop()


def victims(peer: Peer, which: str) -> list[psutil.Process]:
    """The processes to kill."""
    writers = [one for one in peer.processes() if one.cmdline()[-1:] == ["app.prediction_log.writer"]]
    service = [psutil.Process(peer.process.pid), peer.worker()]
    return {"writer": writers, "service": service, "all": service + writers}[which]


def kill(mode: str, which: str, after: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Figures of one kill."""
    plan_requests = requests(int(arguments.seconds * MOST_PER_S))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with serving(mode, directory, arguments.cache) as peer:
            plan = Plan(
                port=peer.port, requests=plan_requests, connections=CONNECTIONS, seconds=arguments.seconds, patience=1.0
            )
            with loading(plan) as running_load:
                time.sleep(after)
                for process in victims(peer, which):
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGKILL)
                if which != "writer":
                    running_load.stop()
                record = running_load.record()
            if which == "writer":
                drain(peer)
        if which != "writer":
            with serving(mode, directory, arguments.cache) as peer:
                drain(peer)
        return compare(record, directory / "predictions.db") | {"mode": mode, "victim": which, "after_s": after}


def drain(peer: Peer) -> None:
    """Wait until all rows are written."""
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while metric(peer, "prediction_log_rows_waiting") or metric(peer, "prediction_log_spool_bytes") > 2**24:
        if time.monotonic() > deadline:
            raise TimeoutError("the log is not written")
        time.sleep(0.2)


def metric(peer: Peer, name: str, label: str = "") -> float:
    """Sum of the series of a metric whose labels hold a text."""
    text = httpx.get(f"{peer.url}/metrics", trust_env=False, timeout=30).text
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")) and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def compare(record: Record, path: Path) -> dict[str, int]:
    """Answered requests, those that are not in the database, and rows that are there more than once."""
    answered = {f"bench-{number:08d}" for number in (record.status == 200).nonzero()[0].tolist()}
    with closing(sqlite3.connect(path)) as database:
        logged = Counter(name for (name,) in database.execute("SELECT request_id FROM predictions"))
    return {
        "answered": len(answered),
        "lost": len(answered - logged.keys()),
        "twice": sum(count - 1 for count in logged.values()),
    }


def throughput(arguments: argparse.Namespace, directory: Path) -> dict[int, dict[str, list[float]]]:
    """Requests a second by connections and mode, one for each round."""
    found: dict[int, dict[str, list[float]]] = {count: {mode: [] for mode in MODES} for count in LOADS}
    sent = requests(int(arguments.round_s * MOST_PER_S))
    peers: dict[str, Peer] = {}
    with ExitStack() as stack:
        for mode in MODES:
            (directory / mode).mkdir()
            peers[mode] = stack.enter_context(serving(mode, directory / mode, arguments.cache))
        for _, (count, rates) in product(range(arguments.rounds), found.items()):
            for mode, peer in peers.items():
                record = load(Plan(port=peer.port, requests=sent, connections=count, seconds=arguments.round_s))
                assert record.ok().all()
                rates[mode].append(len(record.due) / record.seconds)
                time.sleep(0.5)  # rows that wait are written beside no other's requests
    return found


def batches(arguments: argparse.Namespace, directory: Path) -> dict[str, float]:
    """Rows a second that were answered, written and dropped, where more come than can be written."""
    with serving("best_effort", directory, arguments.cache) as peer:
        request = OBJECTS.request(make_rows(100, 3))
        record = load(Plan(port=peer.port, requests=[request], connections=4, seconds=arguments.seconds))
        rows = 100 * int((record.status == 200).sum())
        written = metric(peer, "prediction_log_rows_total", "written")
        dropped = metric(peer, "prediction_log_rows_total", "dropped")
    return {
        "answered_per_s": rows / record.seconds,
        "written_per_s": written / record.seconds,
        "dropped_per_s": dropped / record.seconds,
    }


def main() -> None:
    options = parser(__doc__, quick="one kill of each kind and 2 rounds")
    options.add_argument("--kills", type=int, default=4, help="of each kind")
    options.add_argument("--seconds", type=float, default=4.0, help="of load around a kill")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--round-s", type=float, default=2.0, help="seconds of load of a round")
    arguments = begin(options)
    if arguments.quick:
        arguments.kills, arguments.rounds = 1, 2
    moments = random.Random(SEED)
    kills: list[dict[str, Any]] = []
    for mode in MODES[1:]:
        for which in VICTIMS:
            for _ in range(arguments.kills):
                kills.append(kill(mode, which, moments.uniform(0.05, arguments.seconds - 1.0), arguments))
                print(kills[-1], flush=True)
    with tempfile.TemporaryDirectory() as name:
        found = throughput(arguments, Path(name))
    with tempfile.TemporaryDirectory() as name:
        beyond = batches(arguments, Path(name))
    report = context("durable", *PACKAGES) | {
        "connections": CONNECTIONS,
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "round_s": arguments.round_s,
        "kills": kills,
        "throughput": {
            str(count): {
                "requests_per_s": {mode: spread(values) for mode, values in rates.items()},
                "durable": ratio(rates["durable"], rates["best_effort"]),
                "best_effort": ratio(rates["best_effort"], rates["off"]),
            }
            for count, rates in found.items()
        },
        "batches": beyond,
    }
    save("durable", report, page, arguments.reports)


if __name__ == "__main__":
    main()
