"""A service that answers as none should: its faults are what proxies, restarts and overload do to a client."""

import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

PREDICTION = (
    b'{"prediction":2.5,"model_version":"1","model_stage":null,"confidence_interval":null,'
    b'"request_id":"r","warnings":[]}'
)

Fault = Callable[[socket.socket], None]


def answer(status: int, body: bytes = b"", content_type: str = "application/json", *headers: str) -> Fault:
    """A whole answer."""
    lines = [
        f"HTTP/1.1 {status} x",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
        "Connection: close",
    ]
    return lambda connection: connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def problem(status: int, kind: str, *headers: str, detail: str = "No.") -> Fault:
    """An error as the service words it."""
    body = f'{{"type":"urn:madrone:problem:{kind}","title":"x","status":{status},"detail":"{detail}","request_id":"r"}}'
    return answer(status, body.encode(), "application/problem+json", *headers)


def reset(connection: socket.socket) -> None:
    """The connection is reset before an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half(connection: socket.socket) -> None:
    """The connection ends in the middle of an answer."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")


def no_http(connection: socket.socket) -> None:
    """Something else than HTTP."""
    connection.sendall(b"\x16\x03\x01 220 mail.example ready\r\n\r\n")


GOOD = answer(200, PREDICTION)


class Misbehaving:
    """A server that gives each request the next of its faults, and after them good predictions.

    `silent`, `drip` and `endless` are methods, since they last until the server ends.

    Attributes:
        faults: Those that are left.
        requests: Heads of the requests that came.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.requests: list[bytes] = []
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def silent(self, connection: socket.socket) -> None:
        """Nothing is ever answered."""
        self._ended.wait()

    def drip(self, connection: socket.socket) -> None:
        """The body comes a byte at a time, so that no limit to the time between two bytes notices."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n")
        while not self._ended.wait(0.02):
            connection.sendall(b" ")

    def endless(self, connection: socket.socket) -> None:
        """The body has no end."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self._ended.is_set():
            connection.sendall(b"a\r\n          \r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        with socket.create_connection(self._listener.getsockname()):
            pass  # wakes it
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        threads: list[threading.Thread] = []
        while True:
            connection, _ = self._listener.accept()
            if self._ended.is_set():
                connection.close()
                break
            threads.append(threading.Thread(target=self._exchange, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _exchange(self, connection: socket.socket) -> None:
        """One request a connection."""
        with connection, connection.makefile("rb") as reader:
            try:
                head = b"".join(iter(reader.readline, b"\r\n"))
                if not head:
                    return
                lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
                reader.read(int(lengths[0].split(b":")[1]) if lengths else 0)
                self.requests.append(head)
                (self.faults.pop(0) if self.faults else GOOD)(connection)
            except OSError:
                pass  # the client left
