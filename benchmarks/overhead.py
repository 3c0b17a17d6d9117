"""Cost of each part of a one-row request, inside one process: no sockets, no server.

    just bench overhead [--rounds 15]

Method: applications are called as a server calls them, with a body that is complete already, by a loop that waits for
nothing; all in turns, round after round, and a figure is the median over the rounds of the mean of 300 calls. First
whole requests: an ASGI application that echoes the body, the ways that Litestar has for a handler, and `/predict` with
the bundled model, on the straight way and, with a slash at its end, on the general one. Then the parts of the general
way, each alone. What is missing from their sum is the calls in between. The report goes to
benchmarks/reports/overhead.md and .json.
"""

import asyncio
import logging.config
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvloop
from litestar import Litestar, asgi, post
from litestar.types import Receive, Scope, Send

from app.config.settings import Settings
from app.container import Services
from app.main import Application, create_app
from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from app.predict.answers import row_answer
from app.predict.exchange import Endpoint, Exchange
from app.predict.query import requested
from app.predict.routing import DirectRoutes, RouteTable
from app.serving.deadline import Deadlines
from app.telemetry.logging import logging_config
from app.telemetry.middleware import RequestTelemetry
from benchmarks.report import Report, begin, context, parser, render, save
from benchmarks.rows import NAMES

CALLS = 300

Run = Callable[[], Awaitable[object]]

Row = msgspec.defstruct("Row", [(name, float) for name in NAMES])
"""The bundled model's features, as a handler of Litestar's would declare them."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Application that returns the body."""
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
    """Caller of ASGI applications with one request."""

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
        """Check that the answer is a 200."""
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
    """Whole requests, by the application."""
    litestar = Litestar([asgi_handler, bytes_handler, struct_handler], logging_config=None)
    return {
        "ASGI echo": caller.call(echo, "/"),
        "Litestar, `@asgi` handler, echo": caller.call(litestar, "/asgi"),
        "Litestar, `body: bytes` handler, echo": caller.call(litestar, "/bytes"),
        "Litestar, `data: Struct` handler, echo": caller.call(litestar, "/struct"),
        "`/predict`, straight way": caller.call(app, "/predict"),
        "`/predict/`, general way": caller.call(app, "/predict/"),
    }


def parts(caller: Caller, services: Services, body: bytes) -> dict[str, Run]:
    """The parts of `/predict`, each alone."""
    served = services.slot.require()
    rows, _ = served.codec.decode_row(body)
    evaluation = served.engine.evaluate(rows)
    single = evaluation.single()
    exchange = Exchange(caller.scope("/predict"), caller.receive, caller.send, Deadlines(30).start(), services.gate)
    asked = requested(b"", served, "auto", table=False)
    counters, log = services.metrics, services.prediction_log
    model = served.identity.name, served.identity.version

    def count() -> None:
        counters.predictions.add((*model, "single"), 1)
        counters.prediction_duration.observe(model, 1e-4)

    def record() -> None:
        log.record(exchange.request_id, "single", model, served.feature_names, rows, evaluation.prediction)

    async def nothing(exchange: Exchange) -> None:
        await exchange.answer(b"")

    async def nothing_at_all(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    endpoint = Endpoint("/predict", nothing, Deadlines(30), services.gate, services.metrics.stages)
    routes = RouteTable({"/predict": nothing_at_all})
    telemetry = RequestTelemetry(nothing_at_all, services.metrics, services.request_log, frozenset({"/predict"}))
    return {
        "id, metrics and log line": caller.call(telemetry, "/predict"),
        "the way past Litestar's router": caller.call(DirectRoutes(echo, routes), "/predict"),
        "deadline, headers, answer's messages": caller.call(endpoint, "/predict"),
        "choice of the model": sync(lambda: services.canary.choose(exchange.raw_headers, exchange.request_id)),
        "body": lambda: exchange.body(2**20, "", services.executor.in_thread),
        "JSON to a row": sync(lambda: served.codec.decode_row(body)),
        "transforms and both forests": sync(lambda: served.engine.evaluate_single(rows)),
        "the rest of the executor": sync(count),
        "interval, warnings, answer to JSON": sync(lambda: row_answer("id", served, rows, single, asked, 0.0)),
        "prediction log, queued": sync(record),
    }


async def measure(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median µs of a call."""
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
    return {name: median(values) for name, values in figures.items()}


def page(report: Report) -> str:
    return render("overhead", report)


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
                "parts": await measure(parts(caller, services, body), rounds),
            }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=31, help="measurements of each")
    arguments = begin(options)
    # Log lines are made, and written to nowhere.
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        logging.config.dictConfig(logging_config("INFO"))
        results = uvloop.run(run(arguments.rounds))
    report = context("overhead", "madrone", "litestar", "msgspec", "numba") | {"rounds": arguments.rounds} | results
    save("overhead", report, page, arguments.reports)


if __name__ == "__main__":
    main()
