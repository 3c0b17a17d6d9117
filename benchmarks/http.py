"""Measures the HTTP path: Madrone against `mlflow models serve`, the same model in both, one worker each.

    just bench http [--seconds 3] [--rounds 5]

Method: both servers are started on loopback and asked for the same rows first; their answers must equal the model's
own. Then they are loaded in turns, round after round, so that a machine which gets slower does so for both. The load
is a closed loop over keep-alive connections from this process. A figure is the median over the rounds, a ratio the
median of the rounds' own ratios. The report goes to benchmarks/reports/http.md and .json.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.models.artifact import read_artifact
from app.models.embedded import BUNDLED
from kernels.cpu import processor

REPORTS = Path(__file__).parent / "reports"
START_TIMEOUT_S = 120
CASES = ((1, 1), (1, 16), (100, 1), (100, 4))
"""Rows in a request, and connections."""


@dataclass(frozen=True)
class Peer:
    """A server under test."""

    name: str
    port: int
    ready: str
    process: subprocess.Popen[bytes]

    def request(self, rows: list[dict[str, float]]) -> bytes:
        """The HTTP request that asks this server for these rows."""
        if self.name == "madrone":
            path, body = ("/predict", rows[0]) if len(rows) == 1 else ("/predict/batch", {"predictions": rows})
        else:
            path, body = "/invocations", {"dataframe_records": rows}
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        )
        return f"{head}\r\n\r\n".encode() + content

    def predictions(self, answer: bytes) -> list[float]:
        """The predictions in an answer's body."""
        body = json.loads(answer)
        if self.name != "madrone":
            return body["predictions"]
        return [body["prediction"]] if "prediction" in body else [item["prediction"] for item in body["predictions"]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(name: str, directory: Path) -> Peer:
    port = free_port()
    environ = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # mlflow starts uvicorn by its name
        "API_HOST": "127.0.0.1", "API_PORT": str(port), "ENABLE_PROMETHEUS": "false", "LOG_LEVEL": "INFO",
        "DATA_DIR": str(directory / "data"),
    }  # fmt: skip
    commands = {
        "madrone": ["-m", "app", "serve"],
        "mlflow models serve": [
            *("-m", "mlflow", "models", "serve", "--model-uri", str(BUNDLED / "model"), "--env-manager", "local"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        ],
    }
    with (directory / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *commands[name]], env=environ, stdout=log, stderr=log, cwd=directory,
            start_new_session=True,
        )  # fmt: skip
    return Peer(name, port, "/health/ready" if name == "madrone" else "/ping", process)


def wait_ready(peer: Peer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if peer.process.poll() is not None:
            sys.exit(f"{peer.name} ended with {peer.process.returncode}")
        try:
            url = f"http://127.0.0.1:{peer.port}{peer.ready}"
            if httpx.get(url, trust_env=False, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    sys.exit(f"{peer.name} was not ready within {START_TIMEOUT_S} s")


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send one request and read its answer, which must be a 200 with a Content-Length."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"a request was answered with {head[:200]!r}")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(length)


async def load(peer: Peer, request: bytes, connections: int, seconds: float) -> list[float]:
    """Latencies in seconds of a closed loop over so many connections."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def loop() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        while (sent := time.perf_counter()) < end:
            await exchange(reader, writer, request)
            latencies.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(loop() for _ in range(connections)))
    return latencies


async def check(peer: Peer, rows: list[dict[str, float]], expected: np.ndarray) -> None:
    """Stop the benchmark unless the server's answers are the model's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
    for count in {count for count, _ in CASES}:
        answer = peer.predictions(await exchange(reader, writer, peer.request(rows[:count])))
        np.testing.assert_allclose(answer, expected[:count], rtol=0, atol=1e-9)
    writer.close()


def sample_rows(count: int) -> tuple[list[dict[str, float]], np.ndarray]:
    """Rows around the model's example, and the model's predictions for them."""
    artifact = read_artifact(BUNDLED / "model")
    matrix = artifact.sample() * np.random.default_rng(0).uniform(0.95, 1.05, (count, len(artifact.features)))
    names = [feature.name for feature in artifact.features]
    return [dict(zip(names, row, strict=True)) for row in matrix.tolist()], artifact.engine().predict(matrix)


def measure(peers: list[Peer], rounds: int, seconds: float) -> list[dict[str, Any]]:
    rows, expected = sample_rows(max(count for count, _ in CASES))
    for peer in peers:
        asyncio.run(check(peer, rows, expected))
    results: list[dict[str, Any]] = []
    for count, connections in CASES:
        figures: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in peers}
        for round_number in range(-1, rounds):
            for peer in peers:
                latencies = asyncio.run(load(peer, peer.request(rows[:count]), connections, seconds))
                if round_number < 0:
                    continue  # warm-up
                cuts = statistics.quantiles(latencies, n=100)
                figures[peer.name].append(
                    {"requests_per_s": len(latencies) / seconds, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}
                )
        madrone, other = (figures[peer.name] for peer in peers)
        ratios = [a["requests_per_s"] / b["requests_per_s"] for a, b in zip(madrone, other, strict=True)]
        results.append(
            {
                "rows": count,
                "connections": connections,
                "ratio": statistics.median(ratios),
                "peers": {
                    name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                    for name, runs in figures.items()
                },
                "rounds": figures,
            }
        )
        print(f"{count} rows, {connections} connections: {results[-1]['ratio']:.1f} times {peers[1].name}", flush=True)
    return results


def report(results: list[dict[str, Any]], rounds: int, seconds: float) -> None:
    packages = ("madrone", "granian", "litestar", "lightgbm", "mlflow", "numba")
    context = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "command": f"just bench http --seconds {seconds:g} --rounds {rounds}",
    }
    lines = [
        "# HTTP: Madrone and `mlflow models serve`",
        "",
        f"{context['date']}, {context['machine']}, Python {context['python']}, "
        + ", ".join(f"{name} {number}" for name, number in context["versions"].items()),
        "",
        f"`{context['command']}`: medians of {rounds} interleaved rounds of {seconds:g} s each. The load generator "
        "shares the machine with the server.",
        "",
        "| rows a request | connections | server | requests/s | p50 ms | p99 ms | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        for name, figure in result["peers"].items():
            ratio = f"{result['ratio']:.1f}" if name == "madrone" else ""
            lines.append(
                f"| {result['rows']} | {result['connections']} | {name} | {figure['requests_per_s']:.0f} "
                f"| {figure['p50_ms']:.2f} | {figure['p99_ms']:.2f} | {ratio} |"
            )
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "http.md").write_text("\n".join(lines) + "\n")
    (REPORTS / "http.json").write_text(json.dumps(context | {"results": results}, indent=2) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each case and server")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        peers = [start(name, Path(directory)) for name in ("madrone", "mlflow models serve")]
        try:
            for peer in peers:
                wait_ready(peer)
            results = measure(peers, arguments.rounds, arguments.seconds)
        finally:
            for peer in peers:
                if peer.process.poll() is None:
                    os.killpg(peer.process.pid, signal.SIGTERM)
                    peer.process.wait(60)
    report(results, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
