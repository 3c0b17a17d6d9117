"""Starts of Madrone with cached kernels: seconds to the first prediction, and memory after it."""

import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.contenders import MADRONE, START_TIMEOUT_S, Peer, Place, free_port, start
from benchmarks.load.closed_loop import Asked
from benchmarks.load.plan import load
from benchmarks.peers.process import PeerError

LOOK_S = 0.01
WARM_UP_S = 1.0


def measure(model: Path, directory: Path, cache: Path, what: Asked, count: int) -> dict[str, Any]:
    """Measure a number of starts, one after the other (PeerError: it does not start)."""
    seconds: list[float] = []
    worker: list[int] = []
    others: list[int] = []
    for _ in range(count):
        started = time.monotonic()
        peer = start(MADRONE, Place(free_port(), directory, model, MADRONE.python(cache)))
        try:
            first_prediction(peer, what.requests[0])
            seconds.append(time.monotonic() - started)
            load(what.plan(peer.port, 16, WARM_UP_S))
            own = peer.worker()
            worker.append(own.memory_info().rss)
            others.append(sum(one.memory_info().rss for one in peer.processes() if one.pid != own.pid))
        finally:
            peer.stop()
    return {"seconds": seconds, "worker_bytes": worker, "other_bytes": others}


def first_prediction(peer: Peer, request: bytes) -> None:
    """Send a request until it is answered with 200."""
    head, _, body = request.partition(b"\r\n\r\n")
    path = head.split(b" ", 2)[1].decode()
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(base_url=peer.url, headers={"Content-Type": "application/json"}, trust_env=False) as client:
        while time.monotonic() < deadline:
            if peer.process.poll() is not None:
                raise PeerError(f"{peer.name} ended with {peer.process.returncode}")
            try:
                if client.post(path, content=body).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(LOOK_S)
    raise PeerError(f"{peer.name} answered nothing within {START_TIMEOUT_S} s")
