"""HTTP/1.1 by hand, for requests as no client library sends them."""

import http.client
import select
import socket
from collections.abc import Iterator
from typing import NamedTuple, Self

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from tests.support import HTTP, Server

WITHIN_S = 30.0
"""For anything that a server is to do: generous, for it may share its processor."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Of a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(msgspec.json.decode(self.body)["type"]).removeprefix("urn:madrone:problem:")


class Wire:
    """One connection to a server."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def send(self, *parts: bytes) -> Self:
        for part in parts:
            self._socket.sendall(part)
        return self

    def takes(self, data: bytes) -> bool:
        """Send, unless the server has closed the connection."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def comes(self) -> bool:
        """Whether something has come that was not read."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def answer(self) -> Answer:
        """The next answer, whole."""
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def rest(self) -> bytes:
        """All that still comes before the server closes the connection."""
        received = b""
        try:
            while part := self._socket.recv(65536):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received

    def half_close(self) -> Self:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Leave without a word: what was sent and not yet read is lost."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()


def head(path: str = "/predict", length: int | None = None, media_type: str = "application/json", **more: str) -> bytes:
    """The head of a POST request, whose body comes in chunks where it has no length."""
    headers = {
        "Host": "test",
        "Content-Type": media_type,
        **{name.replace("_", "-"): text for name, text in more.items()},
    }
    headers |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def chunks(body: bytes, size: int) -> Iterator[bytes]:
    """A body in chunks of so many bytes, and its end."""
    for start in range(0, len(body), size):
        part = body[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def metric(server: Server, name: str, **labels: str) -> float:
    """A sample at /metrics, whatever its model's name if that is not given; 0 where there is none."""
    text = HTTP.get(f"{server.url}/metrics", timeout=WITHIN_S).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told = {key: value for key, value in sample.labels.items() if key in labels or key != "model_name"}
            if sample.name == name and told == labels:
                return sample.value
    return 0.0


def rows_in_flight(server: Server) -> dict[str, float]:
    return {where: metric(server, "rows_in_flight", where=where) for where in ("held", "queued")}
