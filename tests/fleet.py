"""Several services behind one address: a proxy that gives each request to the next of them, and tries none again."""

import itertools
import threading
from collections.abc import Sequence
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support import Server, free_port

REPLICA = "x-replica"
"""Header of an answer with the number of the service that gave it."""


class RoundRobin:
    """A proxy that sends each request to the next service, over a connection of its own.

    Args:
        servers: The services.

    Attributes:
        url: Its address.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        turns = itertools.cycle(enumerate(server.port for server in servers))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                number, to = next(turns)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                connection = HTTPConnection("127.0.0.1", to, timeout=40)
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    self.send_header(name, value)
                self.send_header(REPLICA, str(number))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = forward

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="round-robin")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
