"""Environments of engines, and the benchmark's end of a worker."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_S = 900

Predict = Callable[[np.ndarray], np.ndarray]
"""Raw scores float64[B] of rows float64[B, F]."""


class PeerError(Exception):
    """An engine cannot be installed, built or asked; the message says why."""


@dataclass(frozen=True)
class Peer:
    """An engine under test.

    Attributes:
        label: Name in the report.
        module: File in this folder.
        environment: Name of a requirements file in this folder; None for the project's own environment.
        options: Further arguments of its `build` and `load`.
        threads: Number of threads it may use.
    """

    label: str
    module: str
    environment: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1


def python_of(peer: Peer, cache: Path) -> Path:
    """Python of a peer's environment, which is made at first use (PeerError: it cannot be made)."""
    if peer.environment is None:
        return Path(sys.executable)
    requirements = (HERE / peer.environment).with_suffix(".txt")
    environment = cache / "environments" / peer.environment
    python, stamp = environment / "bin" / "python", environment / "installed.txt"
    if stamp.is_file() and stamp.read_bytes() == requirements.read_bytes():
        return python
    print(f"Making an environment for {peer.label} ...", file=sys.stderr)
    for command in (
        ["uv", "venv", "--quiet", "--clear", "--python", "3.11", str(environment)],
        ["uv", "pip", "install", "--quiet", "--python", str(python), "--requirement", str(requirements)],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerError(f"not installed: {error}") from error
        if done.returncode != 0:
            raise PeerError(f"not installed: {last_line(done.stderr)}")
    stamp.write_bytes(requirements.read_bytes())
    return python


def memory(name: str, process: int | str = "self") -> int:
    """A figure of a process's memory in bytes, as Linux tells it; 0 once it has ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1].strip()[:200]


class Process:
    """Worker that runs until it is closed. Its output goes to a file in the cache's `logs`.

    Args:
        peer: The engine.
        cache: Folder of environments and logs.
        environ: Further variables of its environment.
        patience_s: Time limit of each call.
    """

    def __init__(
        self, peer: Peer, cache: Path, environ: dict[str, str] | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        python = python_of(peer, cache)
        self._patience_s = patience_s
        self._log = cache / "logs" / f"{peer.label}.txt"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker", peer.module],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(peer.threads)} | (environ or {}), start_new_session=True,
            )  # fmt: skip

    def ask(self, do: str, **arguments: Any) -> Any:
        """Call a method of the worker, and wait for the result.

        Raises:
            PeerError: It could not, it ended, or it took too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(self._patience_s, self._kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timed_out = not timer.is_alive()
            timer.cancel()
        if timed_out:
            raise PeerError(f"{do} took more than {self._patience_s} s")
        if not line:
            said = last_line(self._log.read_text(errors="replace"))
            raise PeerError(f"{do}: ended with {self._process.wait()}, last said {said!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{do}: {answer['error'][:300]}")
        return answer["result"]

    def close(self) -> None:
        """Stop the worker, whatever it is doing."""
        self._kill()
        with suppress(BrokenPipeError), self._process:  # what it did not read is still in its pipe
            pass

    def _kill(self) -> None:
        """Kill the worker and the processes it has started, such as a compiler."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
