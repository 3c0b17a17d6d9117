"""Serves the metrics on a separate port, for a scraper that cannot reach the port of the API."""

import asyncio
import gzip
import socket
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread
from typing import Any

from prometheus_client import start_http_server
from prometheus_client.exposition import gzip_accepted

from app.telemetry.exposition import OPENMETRICS, PLAIN, Exposition, accepts_openmetrics
from app.telemetry.metrics import Metrics

IDLE_S = 30.0
"""Time for which a client may send or read nothing, since each has a thread and an open file."""


class MetricsServer:
    """Serves /metrics from a thread, with prometheus-client's own server and the writer of `exposition.py`.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        metrics: Metrics to serve.
    """

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: The port is taken or not permitted.
            RuntimeError: The server's thread ended.
        """
        # The library's own application answers what no scraper asks for.
        families: Any = self._metrics.families
        server, thread = start_http_server(self._port, self._host, families)
        server.RequestHandlerClass = _impatient(server.RequestHandlerClass)
        server.set_app(_answering_head(_answering_scrapes(server.get_app(), self._metrics.exposition)))
        try:
            await asyncio.to_thread(thread.join)
        finally:
            await asyncio.to_thread(_end, server)
            server.server_close()
        raise RuntimeError("the metrics server's thread ended")


def _end(server: Any) -> None:
    """End the server's loop, which looks for the wish to end each half second, or when somebody connects."""
    ending = Thread(target=server.shutdown)
    ending.start()
    with suppress(OSError), socket.create_connection(server.server_address[:2], timeout=1):
        ending.join()
    ending.join()


def _impatient(handler: Any) -> Any:
    """A handler of connections that ends those that are idle for too long."""

    class Impatient(handler):
        timeout = IDLE_S

        def handle(self) -> None:
            with suppress(TimeoutError):
                super().handle()

    return Impatient


def _answering_scrapes(app: Any, exposition: Exposition) -> Any:
    """A WSGI application that answers scrapes by `exposition`, and all other requests as `app` does."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or environ["PATH_INFO"] == "/favicon.ico":
            return app(environ, start_response)
        openmetrics = accepts_openmetrics(environ.get("HTTP_ACCEPT"))
        body = exposition.text(openmetrics=openmetrics)
        headers = [("Content-Type", OPENMETRICS if openmetrics else PLAIN)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            body = gzip.compress(body, compresslevel=1)
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body]

    return answer


def _answering_head(app: Any) -> Any:
    """A WSGI application that answers HEAD as `app` does GET, without the body."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "HEAD":
            return app(environ, start_response)
        head: list[Any] = []
        body = app(environ | {"REQUEST_METHOD": "GET"}, lambda *given: head.extend(given))
        status, headers = head
        start_response(status, [*headers, ("Content-Length", str(sum(map(len, body))))])
        return []

    return answer
