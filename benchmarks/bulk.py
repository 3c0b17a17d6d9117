"""Bulk scoring in every format: rows a second, memory, and the latency of single rows meanwhile."""

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.bodies import FORMATS, Format, content_of
from benchmarks.contenders import Peer
from benchmarks.load.closed_loop import PAUSE_S, Asked, Case, ask, checked, measure_once
from benchmarks.load.open_loop import latencies, open_plan
from benchmarks.load.plan import load
from benchmarks.load.plan import running as loading
from benchmarks.peers.process import PeerError

SIZES = (100_000, 1_000_000)
BESIDE_RATE = 100.0
BESIDE_CONNECTIONS = 16
LAG_S = 0.005
LAG_METRIC = "event_loop_lag_seconds"


def repeated(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The values, repeated up to a number of rows."""
    return np.concatenate([values] * -(-count // len(values)))[:count]


class Peak:
    """Peak of a process's resident memory from now on.

    Linux resets the peak when 5 is written to /proc/PID/clear_refs (proc(5)).
    """

    def __init__(self, process: psutil.Process) -> None:
        self._status = Path(f"/proc/{process.pid}/status")
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        self.before = self._read("VmRSS")

    def above(self) -> int:
        """Bytes between the peak and the memory at the start."""
        return self._read("VmHWM") - self.before

    def _read(self, name: str) -> int:
        line = next(line for line in self._status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024


def measure(
    peer: Peer, rows: NDArray[np.float64], expected: NDArray[np.float64], sizes: tuple[int, ...], rounds: int,
    seconds: float,
) -> tuple[list[dict[str, Any]], dict[str, str]]:  # fmt: skip
    """Figures of every format and size; and the reason for each format without."""
    found: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    for size in sizes:
        matrix, right = repeated(rows, size), repeated(expected, size)
        for chosen in FORMATS:
            if chosen.name in absent:
                continue
            try:
                found.append(_measure_format(peer, chosen, matrix, right, rounds, seconds))
                print(f"bulk: {size} rows as {chosen.name}", flush=True)
            except PeerError as error:
                absent[chosen.name] = str(error)
    return found, absent


def _measure_format(
    peer: Peer, chosen: Format, matrix: NDArray[np.float64], right: NDArray[np.float64], rounds: int, seconds: float
) -> dict[str, Any]:
    request = chosen.request(matrix)
    body = content_of(request)
    peak = Peak(peer.worker())
    # Memory is that of the first request of its kind: later ones may find it there.
    answer = ask(peer, "/predict/bulk", chosen.media_type, body)
    above = peak.above()
    checked(chosen.decode(answer), right)
    what, case = Asked([request], [b""]), Case(chosen.name, len(matrix), 1)
    return {
        "format": chosen.name,
        "rows": len(matrix),
        "body_bytes": len(body),
        "peak_bytes": above,
        "rounds": [measure_once(peer, what, case, seconds) for _ in range(rounds)],
    }


def measure_beside(
    peer: Peer, one_row: Asked, rows: NDArray[np.float64], size: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """One-row latencies at a low rate, alone and while a large Arrow body is scored."""
    request = FORMATS[0].request(repeated(rows, size))
    bulk = Asked([request], [b""])
    found: list[dict[str, Any]] = []
    for number in range(rounds):
        plan = open_plan(peer, one_row, BESIDE_RATE, seconds, seed=number, connections=BESIDE_CONNECTIONS)
        time.sleep(PAUSE_S)
        alone = latencies(load(plan))
        lags = lag_counts(peer)
        with loading(bulk.plan(peer.port, 1, seconds + 1)) as beside:
            time.sleep(1)
            record = load(plan)
            scored = beside.record()
        during = (record.due > scored.sent[0]) & (record.due < np.nanmax(scored.answered))
        found.append(
            {
                "alone_ms": np.quantile(alone, [0.5, 0.99], method="higher").tolist(),
                "beside_ms": np.quantile(latencies(record)[during], [0.5, 0.99], method="higher").tolist(),
                "bulk_requests": int(scored.ok().sum()),
                "lag_above": lag_share(lags, lag_counts(peer)),
            }
        )
    return {"rows": size, "rate": BESIDE_RATE, "seconds": seconds, "rounds": found}


def lag_counts(peer: Peer) -> tuple[float, float] | None:
    """Measurements of the event loop's lag up to `LAG_S`, and of any lag; None where the service has none."""
    with suppress(httpx.TransportError):
        text = httpx.get(f"{peer.url}/metrics", timeout=30, trust_env=False).text
        samples = {
            (sample.name, float(sample.labels.get("le", "inf"))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        within = samples.get((f"{LAG_METRIC}_bucket", LAG_S))
        return None if within is None else (within, samples[f"{LAG_METRIC}_count", math.inf])
    return None


def lag_share(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    """Share of measurements between two scrapes with a lag above `LAG_S`."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return 1 - (after[0] - before[0]) / (after[1] - before[1])
