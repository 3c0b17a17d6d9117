"""A registry that misbehaves: a real `mlflow server` to be killed or hung, and a proxy that spoils what it answers."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from tests.support import HTTP, eventually, free_port

FORBIDDEN = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 17\r\n"
    b"Connection: close\r\n\r\nPermission denied"
)

Fault = Literal["error", "forbid", "drip", "truncate", "corrupt", "refuse"]
DOWNLOADS = "/mlflow-artifacts/artifacts/"
"""In the path of a file that is downloaded through the server; a listing has no name after it, and an upload, which has
one, is answered with no body."""


class MlflowServer:
    """A `mlflow server` process with an SQLite store and proxied artifacts, both in `directory`.

    It has a process group of its own, and may be started again after it was killed or stopped: on the same port, with
    what it held.
    """

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._directory = directory
        self._log = directory / "server.log"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}", "--workers", "1"),
            *("--artifacts-destination", str(directory / "artifacts"), "--serve-artifacts"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                # Eight more processes, for jobs that no registry needs.
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                start_new_session=True,
            )
        try:
            eventually(self._answers)
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """End it as a crash does: without a word to anyone."""
        self._signal(signal.SIGKILL)
        self._gone()

    def hang(self) -> None:
        """Stop all its processes where they are: connections are taken by the kernel, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on after `hang`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask it to end, whatever state it is in, and end it if it does not."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(20)
        self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            # The group may outlive its leader, and has no one left in it after a kill.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _gone(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
            eventually(lambda: not self._listens())

    def _listens(self) -> bool:
        try:
            HTTP.get(self.url, timeout=5)
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            pass
        return True

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return HTTP.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class FaultProxy:
    """An HTTP proxy in front of `target_url` that spoils answers as its `fault` says.

    It takes one request a connection, with a Content-Length or without a body, as MLflow's client sends them, and has
    the whole answer before it passes any of it on.

    - None: everything passes.
    - `error`: a 500 as MLflow words it, and nothing is asked of the target.
    - `forbid`: a write gets the 403 of an MLflow server with basic-auth, and nothing is asked of the target.
    - `drip`: the answer comes a byte each `pace` seconds, which no limit to the time between two bytes notices.
    - `truncate`: the connection closes after half of a downloaded file.
    - `corrupt`: a byte in the middle of a downloaded file has all its bits flipped, if the file's name is `corrupted`.
    - `refuse`: connections are taken and closed.

    Attributes:
        fault: May be changed at any time; a request keeps the one that it came under.
        connections: How many were taken.
        requests: How many came whole, by path, whatever became of them.
    """

    def __init__(self, target_url: str, *, corrupted: str = "model.lgb", pace: float = 1.0) -> None:
        self.fault: Fault | None = None
        self.connections = 0
        self.requests: Counter[str] = Counter()
        self._target = urlsplit(target_url)
        self._corrupted = corrupted
        self._pace = pace
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._handlers: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self._thread.start()

    def close(self) -> None:
        """End every connection, whatever it waits for, and the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def _end(self) -> None:
        self._server.close()
        while len(asyncio.all_tasks()) > 1:  # a connection that was taken just now has no handler yet
            for handler in self._handlers:
                handler.cancel()
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # aborted transports are closed by the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections += 1
        try:
            await self._exchange(reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either end left, or the proxy is being closed
        finally:
            writer.transport.abort()
            self._handlers.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; one that is cut off where it is spoilt."""
        fault = self.fault
        if fault == "refuse":
            return
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(_content_length(head) or 0)
        path = head.split(b" ", 2)[1].split(b"?")[0].decode()
        self.requests[path] += 1
        if fault == "error":
            writer.write(_internal_error())
            return
        if fault == "forbid" and not head.startswith(b"GET "):
            writer.write(FORBIDDEN)
            return
        download = DOWNLOADS in path
        head, content = await self._ask(head, body)
        if fault == "truncate" and download:
            content = content[: len(content) // 2]
        elif fault == "corrupt" and download and path.rsplit("/", 1)[1] == self._corrupted:
            middle = len(content) // 2
            flipped = bytes(byte ^ 0xFF for byte in content[middle : middle + 1])  # none of an empty answer
            content = content[:middle] + flipped + content[middle + 1 :]
        if fault != "drip":
            writer.write(head + content)
            return
        for byte in head + content:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(self._pace)

    async def _ask(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The target's answer: its head, with the length of the whole body, and the body."""
        reader, writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            # In HTTP/1.0 the body comes in one piece, and ends with the connection.
            writer.write(_without(head, b"connection").replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1) + body)
            answer_head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.transport.abort()
        kept = _without(_without(answer_head + b"\r\n\r\n", b"content-length"), b"connection")
        return kept[:-2] + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(content), content


def _content_length(head: bytes) -> int | None:
    lines = (line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return next((int(value) for name, value in lines if name == b"content-length"), None)


def _without(head: bytes, name: bytes) -> bytes:
    """A head without the lines of one header."""
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(name + b":"))


def _internal_error() -> bytes:
    body = msgspec.json.encode({"error_code": "INTERNAL_ERROR", "message": "a fault that a test asked for"})
    return (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    ) + body
