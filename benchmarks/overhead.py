"""Measures what each part of a one-row request costs, inside one process: no sockets, no server.

    just bench overhead [--rounds 15]

Method: applications are called as a server calls them, with a body that is there already, by a loop that waits for
nothing; all in turns, round after round, and a figure is the median over the rounds of the mean of 300 calls. First
whole requests: an ASGI application that echoes the body, the ways that Litestar has for a handler, and `/predict` with
the bundled model, past Litestar and through its handler. Then the parts of `/predict`, each alone. What is missing from
the sum of the parts is the calls in between. The report goes to benchmarks/reports/overhead.md and .json.
"""

import argparse
import asyncio
import json
import logging.config
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from litestar import Litestar, asgi, post
from litestar.types import Receive, Scope, Send

from app.container import Services
from app.main import Application, create_app
from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from app.predict.answers import row_answer
from app.predict.body import Drain
from app.predict.direct import DirectRoutes
from app.predict.exchange import Endpoint, Exchange
from app.predict.handlers import Predictions
from app.serving.deadline import Deadlines
from app.settings import Settings
from app.telemetry.logging import logging_config
from app.telemetry.middleware import RequestTelemetry
from kernels.cache import cache_kernels
from kernels.cpu.backend import processor

REPORTS = Path(__file__).parent / "reports"
KERNELS = Path(".madrone") / "kernels"
CALLS = 300

Run = Callable[[], Awaitable[object]]


class Row(msgspec.Struct):
    """The bundled model's features, as a handler of Litestar's would declare them."""

    MedInc: float
    HouseAge: float
    AveRooms: float
    AveBedrms: float
    Population: float
    AveOccup: float
    Latitude: float
    Longitude: float


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The floor."""
    body = (await receive())["body"]  # type: ignore[typeddict-item]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[arg-type]
    await send({"type": "http.response.body", "body": body, "more_body": False})


@asgi("/asgi", copy_scope=False)
async def asgi_handler(scope: Scope, receive: Receive, send: Send) -> None:
    await echo(scope, receive, send)


@post("/bytes", status_code=200)
async def bytes_handler(body: bytes) -> bytes:
    return body


@post("/struct", status_code=200)
async def struct_handler(data: Row) -> Row:
    return data


class Caller:
    """Calls applications with one request."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._headers = [
            (b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]  # fmt: skip

    def scope(self, path: str) -> Any:
        """A request's scope."""
        return {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": self._headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip

    async def receive(self) -> Any:
        """The body, all at once."""
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Any) -> None:
        """Take an answer that is a 200."""
        if message["type"] == "http.response.start" and message["status"] != 200:
            sys.exit(f"a request was answered with {message['status']}")

    def call(self, app: Any, path: str) -> Run:
        """A call of an application."""
        return lambda: app(self.scope(path), self.receive, self.send)


def sync(work: Callable[[], object]) -> Run:
    async def run() -> None:
        work()

    return run


def requests(caller: Caller, app: Application) -> dict[str, Run]:
    """Whole requests, by what answers them."""
    litestar = Litestar([asgi_handler, bytes_handler, struct_handler], logging_config=None)
    return {
        "ASGI echo": caller.call(echo, "/"),
        "Litestar, `@asgi` handler, echo": caller.call(litestar, "/asgi"),
        "Litestar, `body: bytes` handler, echo": caller.call(litestar, "/bytes"),
        "Litestar, `data: Struct` handler, echo": caller.call(litestar, "/struct"),
        "`/predict`, bundled model": caller.call(app, "/predict"),
        "`/predict/`, bundled model": caller.call(app, "/predict/"),
    }


def parts(caller: Caller, services: Services, predictions: Predictions, body: bytes) -> dict[str, Run]:
    """The parts of `/predict`, each alone."""
    served = services.slot.require()
    rows = served.codec.decode_row(body)
    evaluation = served.engine.evaluate(rows)
    exchange = Exchange(caller.scope("/predict"), caller.receive, caller.send, Deadlines(30).start())
    level = served.artifact.intervals and served.artifact.intervals.default_level
    drain = Drain(services.admission)

    async def nothing(exchange: Exchange) -> None:
        await exchange.answer(b"")

    async def nothing_at_all(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    telemetry = RequestTelemetry(nothing_at_all, services.metrics, services.request_log, frozenset({"/predict"}))
    return {
        "id, metrics and log line": caller.call(telemetry, "/predict"),
        "the way past Litestar's router": caller.call(DirectRoutes(echo, {"/predict": nothing_at_all}), "/predict"),
        "deadline, headers, answer's messages": caller.call(Endpoint(nothing, Deadlines(30), drain), "/predict"),
        "choice of the model": sync(lambda: predictions._choose(exchange)),
        "body": lambda: exchange.body(2**20, "", services.executor.in_thread),
        "JSON to a row": sync(lambda: served.codec.decode_row(body)),
        "transforms and both forests": sync(lambda: served.engine.evaluate(rows)),
        "the rest of the executor": sync(lambda: services.executor._count("1", "single", 1, 1e-4)),
        "interval, warnings, answer to JSON": sync(lambda: row_answer(exchange, served, rows, evaluation, level, 0.0)),
        "prediction log, queued": sync(lambda: predictions._record(exchange, served, rows, evaluation, "single")),
    }


async def measure(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Microseconds a call, medians."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-1, rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                await run()
            seconds = (time.perf_counter() - started) / CALLS
            if number >= 0:
                figures[name].append(seconds * 1e6)
            await asyncio.sleep(0.005)  # the tasks beside it
    return {name: statistics.median(values) for name, values in figures.items()}


def report(results: dict[str, dict[str, float]], rounds: int) -> None:
    """Write the page and its figures."""
    context = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("madrone", "litestar", "msgspec", "numba")},
    }
    whole, pieces = results["requests"], results["parts"]
    total, floor = whole["`/predict`, bundled model"], whole["ASGI echo"]
    lines = [
        "# What a one-row request costs", "",
        f"{context['date']}, {context['machine']}, Python {context['python']}, "
        + ", ".join(f"{name} {number}" for name, number in context["versions"].items())
        + f". `just bench overhead`: medians of {rounds} interleaved rounds, in one process, without sockets.", "",
        "| request | µs | more than the echo |", "| --- | --- | --- |",
        *(f"| {name} | {us:.1f} | {us - floor:.1f} |" for name, us in whole.items()), "",
        "| part of `/predict`, alone | µs | share |", "| --- | --- | --- |",
        *(f"| {name} | {us:.2f} | {us / total:.0%} |" for name, us in pieces.items()),
        f"| the calls in between | {total - sum(pieces.values()):.2f} | {1 - sum(pieces.values()) / total:.0%} |",
    ]  # fmt: skip
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "overhead.md").write_text("\n".join(lines) + "\n")
    (REPORTS / "overhead.json").write_text(json.dumps(context | results, indent=2) + "\n")
    print("\n".join(lines))


async def run(rounds: int) -> dict[str, dict[str, float]]:
    example = read_artifact(BUNDLED / "model").example
    body = msgspec.json.encode(example)
    caller = Caller(body)
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(data_dir=Path(directory), enable_prometheus=False)
        app = create_app(settings)
        services = app.services
        async with app.litestar.lifespan():
            while services.slot.current is None:  # noqa: ASYNC110 - the slot tells nobody
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)  # until the look into the registry is over
            return {
                "requests": await measure(requests(caller, app), rounds),
                "parts": await measure(parts(caller, services, Predictions(services), body), rounds),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="measurements of each")
    arguments = parser.parse_args()
    cache_kernels(KERNELS)
    with Path(os.devnull).open("w") as log:  # lines are made and written, to nowhere
        config = logging_config("INFO")
        config["handlers"]["stderr"]["stream"] = log
        logging.config.dictConfig(config)
        results = uvloop.run(run(arguments.rounds))
    report(results, arguments.rounds)


if __name__ == "__main__":
    main()
