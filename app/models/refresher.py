"""One look into the registry: what it prefers goes into the slot, if it passes every check.

Resolve, fetch, build, check, warm up, swap; a request only ever reads the slot. Whatever fails leaves the old model
there.
"""

import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from app.models.disk.entry import StoreCorrupt, StoredModel
from app.models.disk.pin import Pin
from app.models.disk.store import ModelStore
from app.models.identity import ModelIdentity
from app.models.loader import Loading, ModelLoader
from app.models.refusal import Check, ModelRefused
from app.models.registry.source import (
    Candidate,
    LookUp,
    ModelSource,
    ModelUnknown,
    NothingToServe,
    Offer,
    RegistryUnreachable,
    VersionUnknown,
)
from app.models.served import ServedModel
from app.models.slot import ModelSlot
from app.telemetry.metrics import Metrics

Outcome = Literal[
    "swapped",
    "unchanged",
    "refused",
    "failed",
    "nothing_to_serve",
    "model_unknown",
    "version_unknown",
    "registry_unreachable",
    "registry_schema",
]
Role = Literal["current", "canary", "shadow"]

MAX_REFUSALS = 1000
"""Refused versions that are remembered."""

DAMAGED: tuple[Check, ...] = ("artifact", "digest")
"""Checks that a model also fails when its download went wrong unseen: it is fetched again, later each time."""

MAX_DOUBLINGS = 10

log = logging.getLogger(__name__)


class Refresh(msgspec.Struct, frozen=True):
    """One look into the registry, or one version of it, and what came of it.

    Attributes:
        reason: Why it was no more; it repeats nothing that a registry said of itself.
        detail: What the registry or a library said of it; for those alone who bring ADMIN_API_KEY.
    """

    outcome: Outcome
    version: str | None = None
    reason: str | None = None
    detail: str | None = None
    at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))

    def for_anybody(self) -> "Refresh":
        """Without the detail."""
        return msgspec.structs.replace(self, detail=None)


class _Refusal(NamedTuple):
    """A version that was refused, how often, and when it is fetched again."""

    refresh: Refresh
    times: int
    again_at: float


class Refresher:
    """Looks, and swaps. Its methods block, for seconds, and are called one at a time.

    Args:
        slot: Where new models go.
        source: Where models come from.
        loader: Makes them ready.
        store: Where the last known good ones are.
        pin: Where the pinned version is written.
        metrics: Where looks and the models in use are shown.
        ttl: Seconds between looks while all is well.
        clock: Seconds that never go back; a test passes its own.

    Attributes:
        look_ups: Places that the last answered look tried.
        last_refusal: The last version that failed a check and was to be the model in use.
        rollout: What came of the last look for canary and shadow, where there is something under their aliases.
    """

    def __init__(
        self,
        slot: ModelSlot,
        source: ModelSource,
        loader: ModelLoader,
        store: ModelStore,
        pin: Pin,
        metrics: Metrics,
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.look_ups: tuple[LookUp, ...] = ()
        self.last_refusal: Refresh | None = None
        self.rollout: dict[Role, Refresh] = {}
        self._slot = slot
        self._source = source
        self._loader = loader
        self._store = store
        self._pin = pin
        self._metrics = metrics
        self._ttl = ttl
        self._clock = clock
        self._refused: dict[tuple[Role, str, int | None], _Refusal] = {}

    @property
    def loading(self) -> Loading | None:
        """The version that is being loaded; None while none is."""
        return self._loader.loading

    def start(self) -> None:
        """Before the first look: serve what the last process served, if the settings still ask for it."""
        self._slot.pinned = self._pin.read()
        if self._slot.current is None:
            self._restore(self._is_asked_for)

    def look(self, *, retry_refused: bool = False) -> Refresh:
        """Look once, and swap if the registry offers another model that can be served.

        Args:
            retry_refused: Look again at versions that were refused before, instead of waiting for others.
        """
        if retry_refused:
            self._refused.clear()
        return self._tell(self._look())

    def pin(self, version: str) -> Refresh:
        """Serve one version from now on, whatever the registry prefers, if it passes every check but for `interface`.

        While the registry is down, one that is kept on disk can be pinned.
        """
        return self._tell(self._pin_version(version))

    def unpin(self) -> Refresh:
        """Serve what the registry prefers again."""
        self._slot.pinned = None
        return self._with_pin(self.look(retry_refused=True), None)

    def _look(self) -> Refresh:
        if self._slot.current is None:
            log.info("asking the registry")
        try:
            pinned = None if self._slot.pinned is None else self._pinned_candidate(self._slot.pinned)
            offer = self._source.look()
        except ModelUnknown as error:
            self._slot.registry_answered(answered=True)
            self.look_ups = ()
            return Refresh("model_unknown", reason=str(error))
        except RegistryUnreachable as error:
            self._slot.registry_answered(answered=False)
            if self._slot.current is None:
                self._restore(self._is_asked_for)
            return Refresh(error.outcome, reason=str(error), detail=error.detail)
        except Exception as error:
            return _failed(error)
        self._slot.registry_answered(answered=True, alias_missing=offer.alias_missing)
        refresh = self._take(offer, pinned)
        self._follow("canary", offer.canary)
        self._follow("shadow", offer.shadow)
        return refresh

    def _pinned_candidate(self, version: str) -> Candidate | None:
        try:
            return self._source.version(version)
        except (VersionUnknown, ModelUnknown):
            return None

    def _take(self, offer: Offer, pinned: Candidate | None) -> Refresh:
        """Put the preferred candidate in service.

        One that is refused leaves the model there that is in service. Only where there is none the next one is tried.
        """
        candidates = offer.candidates
        look_ups = list(offer.look_ups)
        if self._slot.pinned is not None:
            if pinned is None and self._slot.current is not None:
                self._tell_look_ups(look_ups)
                reason = f"pinned version {self._slot.pinned} is not in the registry any more"
                return Refresh("nothing_to_serve", self._slot.pinned, reason)
            if pinned is not None:
                look_ups = [LookUp(pinned.rule, "found", pinned.identity.version)]
                candidates = (pinned, *candidates)
        first: Refresh | None = None
        for candidate in candidates:
            if first is not None:
                look_ups.append(LookUp(candidate.rule, "found", candidate.identity.version))
            refresh = self._consider("current", candidate, accept_interface=candidate is pinned)
            if refresh.outcome in ("swapped", "unchanged"):
                self._tell_look_ups(look_ups)
                return refresh
            outcome = "refused" if refresh.outcome == "refused" else "found"
            look_ups[-1] = LookUp(candidate.rule, outcome, candidate.identity.version, refresh.reason)
            first = first or refresh
            if self._slot.current is not None or refresh.outcome != "refused":
                break
        self._tell_look_ups(look_ups)
        return first or Refresh("nothing_to_serve", reason=offer.problem)

    def _pin_version(self, version: str) -> Refresh:
        try:
            candidate = self._source.version(version)
        except (VersionUnknown, ModelUnknown) as error:
            return Refresh("version_unknown", version, str(error))
        except RegistryUnreachable as error:
            return self._pin_stored(version, error)
        except Exception as error:
            return _failed(error)
        self._refused.pop(_key("current", candidate.identity), None)
        refresh = self._consider("current", candidate, accept_interface=True)
        if refresh.outcome in ("swapped", "unchanged"):
            self.look_ups = (LookUp(candidate.rule, "found", version),)
            return self._with_pin(refresh, version)
        return refresh

    def _pin_stored(self, version: str, error: RegistryUnreachable) -> Refresh:
        before = self._slot.current
        if before is None or before.identity.version != version:
            self._restore(lambda entry: entry.identity.version == version)
        now = self._slot.current
        if now is None or now.identity.version != version:
            return Refresh(error.outcome, version, f"{error}; and the version is not kept on disk", error.detail)
        return self._with_pin(Refresh("unchanged" if now is before else "swapped", version), version)

    def _with_pin(self, refresh: Refresh, version: str | None) -> Refresh:
        self._slot.pinned = version
        if self._pin.write(version):
            return refresh
        return msgspec.structs.replace(refresh, reason="DATA_DIR cannot be written: a restart will not know of the pin")

    def _follow(self, role: Role, candidate: Candidate | None) -> None:
        """Keep canary or shadow at what its alias names; one that is refused leaves the old one there."""
        current = self._slot.current
        if candidate is None or current is None or current.identity.is_same_version(candidate.identity):
            if getattr(self._slot, role) is not None:
                log.info("model taken out of service", extra={"role": role})
            self._put(role, None)
            self.rollout.pop(role, None)
        else:
            self.rollout[role] = self._consider(role, candidate)

    def _is_asked_for(self, entry: StoredModel) -> bool:
        return entry.identity.version == self._slot.pinned or self._loader.is_asked_for(entry.identity)

    def _restore(self, fits: Callable[[StoredModel], object]) -> None:
        """Serve the last stored model that fits: the pinned one first, then those that were asked for as now."""
        pinned, selection = self._slot.pinned, self._loader.selection
        entries = [entry for entry in self._store.entries() if fits(entry)]
        entries.sort(key=lambda entry: (entry.identity.version != pinned, entry.selection != selection))
        for entry in entries:
            try:
                served = self._loader.restore(entry)
                self._put("current", served)
            except StoreCorrupt:
                continue  # the store has told it
            except (ModelRefused, RegistryUnreachable) as error:
                log.warning(
                    "stored model is not served",
                    extra={"model_version": entry.identity.version, "reason": str(error)},
                )
            except Exception:
                log.exception("stored model cannot be loaded", extra={"model_version": entry.identity.version})
            else:
                log.info(
                    "stored model in service",
                    extra={"model_version": entry.identity.version, "seconds": round(served.load_seconds, 1)},
                )
                return

    def _consider(self, role: Role, candidate: Candidate, *, accept_interface: bool = False) -> Refresh:
        """Put one version in service, unless it is there or was refused before."""
        identity, version = candidate.identity, candidate.identity.version
        refused = self._refused.get(_key(role, identity))
        if refused is not None and self._clock() < refused.again_at:
            return refused.refresh
        held: ServedModel | None = getattr(self._slot, role)
        if held is not None and held.identity.is_same_version(identity):
            now = msgspec.structs.replace(held, identity=identity, resolved_by=candidate.rule)
            changed = held.identity != identity or held.resolved_by != candidate.rule
            if changed:
                self._put(role, now)
            if role == "current" and self._store.status().last_error is not None:
                self._keep(now)
            elif role == "current" and changed:
                self._loader.describe(now)
            return Refresh("unchanged", version)
        try:
            callers_of = None if accept_interface else self._slot.current
            served = self._loader.load(candidate, callers_of, keep=role == "current")
            self._put(role, served)
        except ModelRefused as error:
            return self._refuse(role, identity, error)
        except NothingToServe as error:
            return Refresh("nothing_to_serve", version, str(error))
        except RegistryUnreachable as error:
            if role == "current":
                self._slot.registry_answered(answered=False)
            return Refresh(error.outcome, version, str(error), error.detail)
        except (OSError, MemoryError) as error:
            # The machine's fault, such as a full disk, and not the model's: it is tried again.
            log.exception("model cannot be loaded", extra={"model_version": version})
            return Refresh("failed", version, f"this machine could not load it: {_named(error)}")
        except Exception as error:
            # An artifact can be strange in more ways than are foreseen, and none may cost more than its own refusal.
            log.exception("model cannot be loaded", extra={"model_version": version})
            return self._refuse(role, identity, ModelRefused(f"it cannot be loaded: {type(error).__name__}"))
        log.info(
            "model in service",
            extra={"role": role, "model_version": version, "seconds": round(served.load_seconds, 1)},
        )
        return Refresh("swapped", version)

    def _keep(self, served: ServedModel) -> None:
        """Put a model on disk that did not find its place there before."""
        try:
            self._loader.keep(served)
        except (ModelRefused, NothingToServe, RegistryUnreachable, OSError) as error:
            log.warning("model cannot be kept", extra={"model_version": served.identity.version, "reason": str(error)})

    def _refuse(self, role: Role, identity: ModelIdentity, error: ModelRefused) -> Refresh:
        refresh = Refresh("refused", identity.version, str(error))
        if role == "current":
            self.last_refusal = refresh
        if len(self._refused) >= MAX_REFUSALS:
            self._refused.clear()
        key = _key(role, identity)
        times = self._refused[key].times + 1 if key in self._refused else 1
        pause = self._ttl * 2.0 ** min(times, MAX_DOUBLINGS) if error.check in DAMAGED else math.inf
        self._refused[key] = _Refusal(refresh, times, self._clock() + pause)
        self._metrics.model_refusals.labels(role, error.check).inc()
        log.warning("model refused", extra={"role": role, "model_version": identity.version, "reason": str(error)})
        return refresh

    def _put(self, role: Role, served: ServedModel | None) -> None:
        """The swap: one reference."""
        before: ServedModel | None = getattr(self._slot, role)
        setattr(self._slot, role, served)
        if role != "current":
            if before is not None:
                self._metrics.model_rollout.remove(role, before.identity.version)
            if served is not None:
                self._metrics.model_rollout.labels(role, served.identity.version).set(1)
        if served is None:
            return
        if before is None or before.engine is not served.engine:
            self._metrics.model_swaps.labels(role).inc()
        if role != "current":
            return
        identity = served.identity
        self._metrics.model_status.labels(identity.name).set(1)
        self._metrics.model_info.clear()
        self._metrics.model_info.labels(
            identity.name, identity.version, identity.stage or "", identity.run_id or "", served.artifact.digest
        ).set(1)
        self._metrics.model_load_duration.clear()
        self._metrics.model_load_duration.labels(identity.version).set(served.load_seconds)

    def _tell_look_ups(self, look_ups: list[LookUp]) -> None:
        self.look_ups = tuple(look_ups)
        for look_up in look_ups:
            self._metrics.model_lookups.labels(look_up.rule, look_up.outcome).inc()

    def _tell(self, refresh: Refresh) -> Refresh:
        self._metrics.model_refreshes.labels(refresh.outcome).inc()
        well = refresh.outcome in ("swapped", "unchanged")
        log.log(
            logging.INFO if well else logging.WARNING,
            "model refresh",
            extra={
                "outcome": refresh.outcome,
                "model_version": refresh.version,
                "reason": refresh.reason,
                "detail": refresh.detail,
                "look_ups": [msgspec.to_builtins(look_up) for look_up in self.look_ups],
            },
        )
        return refresh


def _key(role: Role, identity: ModelIdentity) -> tuple[Role, str, int | None]:
    """Of a version, whatever its stage and aliases are at a look."""
    return role, identity.version, identity.created_at_ms


def _failed(error: Exception) -> Refresh:
    """Such as over a disk that is full where the embedded registry is to be created."""
    log.error("registry cannot be asked", exc_info=error)
    return Refresh("failed", reason=f"this machine could not ask the registry: {_named(error)}")


def _named(error: BaseException) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
