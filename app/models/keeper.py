"""Keeps the best model that the registry offers in service, from a background task.

Resolve, fetch, build, warm up, swap; a request only ever reads the slot. Whatever fails leaves the old model there.
"""

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from app.errors import ModelUnavailable
from app.models.artifact import ModelIdentity, ServedModel, read_artifact, serve_artifact
from app.models.calibration import Calibrations
from app.models.registry import NothingToServe, Registry, RegistryUnreachable, Resolution
from app.models.signature import ModelRefused
from app.telemetry.metrics import Metrics
from kernels.engine import EngineStatus

Outcome = Literal["swapped", "unchanged", "refused", "failed", "nothing_to_serve", "registry_unreachable"]

SETTLED: tuple[Outcome, ...] = ("swapped", "unchanged")
"""Outcomes after which the next look can wait for the TTL."""

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

log = logging.getLogger(__name__)


class ModelSlot:
    """Holds the snapshot that requests are answered with. A swap replaces one reference."""

    def __init__(self) -> None:
        self.current: ServedModel | None = None

    def require(self) -> ServedModel:
        """The snapshot.

        Raises:
            ModelUnavailable: There is none yet.
        """
        if self.current is None:
            raise ModelUnavailable("No model is loaded yet. /health/model says why.")
        return self.current

    def engine_status(self) -> EngineStatus | None:
        """What the snapshot computes with; None while there is none."""
        return self.current and self.current.engine.status()


class Refresh(msgspec.Struct, frozen=True):
    """One look into the registry and what came of it."""

    outcome: Outcome
    version: str | None = None
    reason: str | None = None
    at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


class ModelKeeper:
    """Refreshes a model slot.

    Args:
        slot: Where a new model goes.
        registry: Where models come from.
        metrics: Where look-ups and the model in use are shown.
        calibrations: What batches cost, measured before.
        ttl: Seconds between looks while all is well.
        prepare: Runs before every look until it succeeds once; the embedded registry is set up in it.
    """

    def __init__(
        self,
        slot: ModelSlot,
        registry: Registry,
        metrics: Metrics,
        calibrations: Calibrations,
        ttl: float,
        prepare: Callable[[], None] | None,
    ) -> None:
        self.slot = slot
        self.last_refresh: Refresh | None = None
        self.last_refusal: Refresh | None = None
        self._registry = registry
        self._metrics = metrics
        self._calibrations = calibrations
        self._ttl = ttl
        self._prepare = prepare
        self._refused: tuple[ModelIdentity, Refresh] | None = None
        self._lock = asyncio.Lock()
        # A thread of its own: a registry that hangs must not hold one that predictions need.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model-keeper")

    async def run(self) -> None:
        """Refresh for ever: every `ttl` seconds, sooner (with jittered backoff) after a look that failed."""
        delay = FIRST_RETRY_S
        while True:
            refresh = await self.refresh()
            if refresh.outcome in SETTLED:
                delay = FIRST_RETRY_S
                await asyncio.sleep(self._ttl)
            else:
                await asyncio.sleep(min(self._ttl, delay * random.uniform(0.8, 1.2)))
                delay = min(2 * delay, LONGEST_RETRY_S)

    async def refresh(self, *, retry_refused: bool = False) -> Refresh:
        """Look once, and swap if the registry offers another model that can be served. Looks never overlap.

        Args:
            retry_refused: Look again at a version that was refused before, instead of waiting for another one.
        """
        async with self._lock:
            if retry_refused:
                self._refused = None
            refresh = await asyncio.get_running_loop().run_in_executor(self._executor, self._look)
        self.last_refresh = refresh
        self._metrics.model_refreshes.labels(refresh.outcome).inc()
        log.log(
            logging.INFO if refresh.outcome in SETTLED else logging.WARNING,
            "model refresh",
            extra={"outcome": refresh.outcome, "model_version": refresh.version, "reason": refresh.reason},
        )
        return refresh

    def close(self) -> None:
        """Let go of the thread; a look that is under way is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> Refresh:
        started = time.perf_counter()
        try:
            if self._prepare is not None:
                self._prepare()
                self._prepare = None
            resolution = self._registry.resolve()
        except NothingToServe as error:
            return Refresh("nothing_to_serve", reason=str(error))
        except RegistryUnreachable as error:
            return Refresh("registry_unreachable", reason=str(error))
        identity, version = resolution.identity, resolution.identity.version
        if self._refused is not None and self._refused[0].is_same_version(identity):
            return self._refused[1]
        current = self.slot.current
        if current is not None and current.identity.is_same_version(identity):
            if current.identity != identity or current.resolved_by != resolution.rule:
                self._swap(msgspec.structs.replace(current, identity=identity, resolved_by=resolution.rule))
            return Refresh("unchanged", version)
        try:
            self._swap(self._load(resolution, started))
        except ModelRefused as error:
            return self._refuse(identity, str(error))
        except NothingToServe as error:
            return Refresh("nothing_to_serve", version, str(error))
        except RegistryUnreachable as error:
            return Refresh("registry_unreachable", version, str(error))
        except (OSError, MemoryError) as error:
            # The machine's fault, such as a full disk, and not the model's: it is tried again.
            log.exception("model cannot be loaded", extra={"model_version": version})
            return Refresh("failed", version, f"this machine could not load it: {type(error).__name__}")
        except Exception as error:
            # An artifact can be strange in more ways than are foreseen, and none may cost more than its own refusal.
            log.exception("model cannot be loaded", extra={"model_version": version})
            return self._refuse(identity, f"it cannot be loaded: {type(error).__name__}")
        return Refresh("swapped", version)

    def _refuse(self, identity: ModelIdentity, reason: str) -> Refresh:
        refresh = Refresh("refused", identity.version, reason)
        self._refused, self.last_refusal = (identity, refresh), refresh
        return refresh

    def _load(self, resolution: Resolution, started: float) -> ServedModel:
        # The temporary directory is private (0700), and not needed once everything is read into memory.
        with tempfile.TemporaryDirectory(prefix="madrone-model-") as directory:
            artifact = read_artifact(self._registry.fetch(resolution.identity, Path(directory)))
        metrics = self._registry.run_metrics(resolution.identity.run_id)
        costs = self._calibrations.costs(artifact.digest)
        served = serve_artifact(artifact, resolution.identity, metrics, resolution.rule, costs)
        self._calibrations.store(artifact.digest, served.engine.costs())
        return msgspec.structs.replace(served, load_seconds=time.perf_counter() - started)

    def _swap(self, served: ServedModel) -> None:
        self.slot.current = served
        identity = served.identity
        self._metrics.model_status.labels(identity.name).set(1)
        self._metrics.model_info.clear()
        self._metrics.model_info.labels(
            identity.name, identity.version, identity.stage or "", identity.run_id or "", served.artifact.digest
        ).set(1)
        self._metrics.model_load_duration.clear()
        self._metrics.model_load_duration.labels(identity.version).set(served.load_seconds)
