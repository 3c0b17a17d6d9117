"""Replicas of a fleet on this machine, and what their starts take."""

import json
import time
from datetime import datetime
from pathlib import Path

from benchmarks.contenders import MADRONE, Peer, Place, free_port, start, wait_ready
from benchmarks.fleet.costs import ADMIN_KEY, Start


class Replicas:
    """Starts replicas that share a registry.

    Args:
        registry: The registry, an MLflow server.
        model: MLflow's directory of the model.
        directory: Where each gets a directory of its own.
        cache: Compiled kernels and environments.
    """

    def __init__(self, registry: Peer, model: Path, directory: Path, cache: Path) -> None:
        self._registry, self._model, self._directory, self._cache = registry, model, directory, cache

    def start(self, name: str, ttl: float = 3600.0, **environ: str) -> Peer:
        """Start a replica with the DATA_DIR of this name, without waiting for it."""
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        place = Place(free_port(), directory, self._model, MADRONE.python(self._cache))
        more = {
            "MLFLOW_TRACKING_URI": self._registry.url, "MODEL_ALIAS": "champion", "MODEL_CACHE_TTL": f"{ttl:g}",
            "ADMIN_API_KEY": ADMIN_KEY, "SHUTDOWN_DELAY": "0",
        }  # fmt: skip
        return start(MADRONE, place, **more, **environ)

    def starts(self) -> tuple[Start, Peer]:
        """Seconds of each kind of start; and the last replica, which runs on."""
        empty = self._timed("empty", NUMBA_CACHE_DIR=str(self._directory / "no-kernels"))
        empty[0].stop()
        kernels = self._timed("first")
        kernels[0].stop()
        stages = stages_of(kernels[0])
        again = self._timed("first")
        return Start(empty[1], kernels[1], again[1], *stages), again[0]

    def _timed(self, name: str, **environ: str) -> tuple[Peer, float]:
        begun = time.monotonic()
        peer = self.start(name, **environ)
        try:
            wait_ready(peer)
        except BaseException:
            peer.stop()
            raise
        return peer, time.monotonic() - begun


def stages_of(peer: Peer) -> tuple[float, float]:
    """Seconds of the download of a model, and from there until it was in service, by a replica's log."""
    assert peer.log is not None
    times: dict[str, float] = {}
    for line in peer.log.read_text().splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            times.setdefault(found["message"], datetime.fromisoformat(found["time"]).timestamp())
    fetching, loading, ready = (times[name] for name in ("fetching model", "loading model", "model in service"))
    return loading - fetching, ready - loading
