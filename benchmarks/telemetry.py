"""What traces and scrapes cost a service of one-row requests.

    just bench telemetry [--rounds 9] [--seconds 3] [--quick]

Method: services with the bundled model run beside each other and are loaded by wrk in turns, round after round, each
over 16 connections with one thread of wrk, every other round backwards. They differ in one thing: nothing (two of
them, whose ratio is the noise), a scrape of /metrics each second in OpenMetrics, traces that are all sampled (with a
collector that takes them and without one), and traces of which one in a hundred is sampled. A ratio is the median of
the ratios to the plain service within each round. The collector, which runs on another machine as a rule, has the
lowest priority. The process that answers is measured by its processor time as well, since wrk, the collector and the
process that exports share few cores with it. The scrapes are timed beside, in a service without load,
with gzip and over a connection that stays open, as Prometheus makes them. Where wrk is not
installed (Debian: `apt-get install wrk`) this says so and ends. The report goes to benchmarks/reports/telemetry.md and
.json; with `--quick` to the cache.
"""

import argparse
import gzip
import http.client
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from app.progress import told_every
from benchmarks.contenders import BUNDLED, Peer, Place, free_port, start, wait_ready
from benchmarks.load.wrk import ONE_ROW, Load, by_wrk
from benchmarks.report import Report, at_least, at_most, begin, context, parser, ratio, render, save, spread

CONNECTIONS = 16
SCRAPES = 50
PLAIN = "plain"
AGAIN = "plain again"
SCRAPED = "a scrape a second"
TRACED = "all traces, to a collector"
ALONE = "all traces, no collector"
SAMPLED = "1 % of traces, to a collector"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
PACKAGES = ("madrone", "granian", "opentelemetry-sdk", "prometheus-client")


class Collector(BaseHTTPRequestHandler):
    """Takes what OTLP sends, and forgets it."""

    def do_POST(self) -> None:
        """Answer a POST."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def collecting() -> Generator[str, None, None]:
    """Address of a collector."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)

    def serve() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        server.serve_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving(directory: Path, cache: Path, environ: dict[str, str]) -> Generator[Peer, None, None]:
    """A service with a directory of its own."""
    directory.mkdir()
    place = Place(free_port(), directory, directory, BUNDLED.python(cache))
    peer = start(BUNDLED, place, DATA_DIR=str(directory / "data"), SHUTDOWN_DELAY="0", PREDICTION_LOG="off", **environ)
    try:
        wait_ready(peer)
        yield peer
    finally:
        peer.stop()


@contextmanager
def scraping(peer: Peer) -> Generator[None, None, None]:
    """Scrapes of a service, one a second."""
    with (
        httpx.Client(trust_env=False, headers=OPENMETRICS, timeout=30) as client,
        told_every(1.0, lambda: client.get(f"{peer.url}/metrics").raise_for_status()),
    ):
        yield


def scrape_times(peer: Peer) -> dict[str, Any]:
    """Milliseconds of a scrape as Prometheus makes it, until its last byte is there, and its lines."""
    taken: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", peer.port)
    for _ in range(SCRAPES):
        started = time.perf_counter()
        connection.request("GET", "/metrics", headers=OPENMETRICS | {"Accept-Encoding": "gzip"})
        body = connection.getresponse().read()
        taken.append(1e3 * (time.perf_counter() - started))
    connection.close()
    return {"ms": spread(taken), "lines": gzip.decompress(body).count(b"\n")}


def measure(arguments: argparse.Namespace, directory: Path) -> Report:
    """Requests a second of each service by rounds, and the time of a scrape."""
    with ExitStack() as stack:
        there = {"TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(collecting())}
        nowhere = {"TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
        few = there | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        environs: dict[str, dict[str, str]] = {
            PLAIN: {},
            AGAIN: {},
            SCRAPED: {},
            TRACED: there,
            ALONE: nowhere,
            SAMPLED: few,
        }
        peers = {
            name: stack.enter_context(serving(directory / str(number), arguments.cache, environ))
            for number, (name, environ) in enumerate(environs.items())
        }
        found: dict[str, list[Load]] = {name: [] for name in peers}
        for number in range(-1, arguments.rounds):
            for name, peer in list(peers.items())[:: 1 if number % 2 else -1]:
                with scraping(peer) if name == SCRAPED else nullcontext():
                    load = by_wrk(peer, "/predict", CONNECTIONS, arguments.seconds, ONE_ROW)
                if number >= 0:  # the first round warms up
                    found[name].append(load)
        scrape = scrape_times(peers[PLAIN])
    return {
        "services": {
            name: {
                "requests_per_s": spread([load.requests_per_s for load in loads]),
                "ratio": ratio([load.requests_per_s for load in loads], [load.requests_per_s for load in found[PLAIN]]),
                "cpu_us": spread([load.cpu_us for load in loads]),
                "cpu_ratio": ratio([load.cpu_us for load in loads], [load.cpu_us for load in found[PLAIN]]),
            }
            for name, loads in found.items()
        },
        "scrape": scrape,
    }


def page(report: Report) -> str:
    services = report["services"]
    targets = [
        at_least("A scrape a second, of the throughput", 100 * services[SCRAPED]["ratio"], 99, "{:.1f} %"),
        *(
            at_least(f"With {name}, of the throughput", 100 * services[name]["ratio"], 90, "{:.1f} %")
            for name in (TRACED, ALONE)
        ),
        at_most("A scrape", report["scrape"]["ms"]["median"], 10, "{:.1f} ms"),
    ]
    return render("telemetry", report, targets=targets)


def main() -> None:
    options = parser(__doc__, quick="2 rounds of a second")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    arguments = begin(options)
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed.")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 1
    with tempfile.TemporaryDirectory() as name:
        found = measure(arguments, Path(name))
    report = context("telemetry", *PACKAGES) | {
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "connections": CONNECTIONS,
    }
    save("telemetry", report | found, page, arguments.reports)


if __name__ == "__main__":
    main()
