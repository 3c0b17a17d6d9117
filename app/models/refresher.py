"""One look into the registry: the version that it prefers goes into the slot, if it passes every check.

The steps are resolve, fetch, build, check, warm up, swap. A failure at any of them leaves the old model in service.
"""

from collections.abc import Callable

import msgspec

from app.models.backoff import RefusalBackoff
from app.models.disk.entry import StoreCorrupt, StoredModel
from app.models.disk.pin import Pin
from app.models.disk.store import ModelStore
from app.models.identity import ModelIdentity
from app.models.listener import RefreshListener
from app.models.loader import Loading, ModelLoader
from app.models.outcome import Refresh
from app.models.refusal import ModelRefused
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
from app.models.slot import ModelSlot, Role


class Refresher:
    """Looks into the registry and swaps models. Its methods block for seconds, and are called one at a time.

    Args:
        slot: Holds the models in service.
        source: The registry.
        loader: Makes a version ready to serve.
        store: Last known good models on disk.
        pin: The pinned version on disk.
        listener: Told of looks, refusals and swaps.
        backoff: Refused versions.

    Attributes:
        look_ups: Rules tried by the last look that was answered.
        last_refusal: Last version refused as the model in service.
        rollout: Outcome of the last look for canary and shadow, where their aliases name a version.
    """

    def __init__(
        self,
        slot: ModelSlot,
        source: ModelSource,
        loader: ModelLoader,
        store: ModelStore,
        pin: Pin,
        listener: RefreshListener,
        backoff: RefusalBackoff,
    ) -> None:
        self.look_ups: tuple[LookUp, ...] = ()
        self.last_refusal: Refresh | None = None
        self.rollout: dict[Role, Refresh] = {}
        self._slot = slot
        self._source = source
        self._loader = loader
        self._store = store
        self._pin = pin
        self._listener = listener
        self._backoff = backoff

    @property
    def loading(self) -> Loading | None:
        """The load under way; None while there is none."""
        return self._loader.loading

    def start(self) -> None:
        """Serve the model of the last process before the first look, if the settings still ask for it."""
        self._slot.pinned = self._pin.read()
        if self._slot.current is None:
            self._restore(self._is_asked_for)

    def look(self, *, retry_refused: bool = False) -> Refresh:
        """Look once, and swap if the registry prefers another model that can be served.

        Args:
            retry_refused: Fetch versions again that were refused before.
        """
        if retry_refused:
            self._backoff.clear()
        return self._report(self._look())

    def pin(self, version: str) -> Refresh:
        """Serve one version from now on, whatever the registry prefers, if it passes every check but `interface`.

        While the registry is down, a version stored on disk can be pinned.
        """
        return self._report(self._pin_version(version))

    def unpin(self) -> Refresh:
        """Serve the version that the registry prefers again."""
        self._slot.pinned = None
        return self._write_pin(self.look(retry_refused=True), None)

    def _look(self) -> Refresh:
        if self._slot.current is None:
            self._listener.asking()
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
            return self._failed(error)
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

        If it is refused, the model in service stays. Other candidates are tried only while no model is in service.
        """
        candidates = offer.candidates
        look_ups = list(offer.look_ups)
        if self._slot.pinned is not None:
            if pinned is None and self._slot.current is not None:
                self._set_look_ups(look_ups)
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
            if refresh.serves:
                self._set_look_ups(look_ups)
                return refresh
            outcome = "refused" if refresh.outcome == "refused" else "found"
            look_ups[-1] = LookUp(candidate.rule, outcome, candidate.identity.version, refresh.reason)
            first = first or refresh
            if self._slot.current is not None or refresh.outcome != "refused":
                break
        self._set_look_ups(look_ups)
        return first or Refresh("nothing_to_serve", reason=offer.problem)

    def _pin_version(self, version: str) -> Refresh:
        try:
            candidate = self._source.version(version)
        except (VersionUnknown, ModelUnknown) as error:
            return Refresh("version_unknown", version, str(error))
        except RegistryUnreachable as error:
            return self._pin_stored(version, error)
        except Exception as error:
            return self._failed(error)
        self._backoff.forget("current", candidate.identity)
        refresh = self._consider("current", candidate, accept_interface=True)
        if refresh.serves:
            self.look_ups = (LookUp(candidate.rule, "found", version),)
            return self._write_pin(refresh, version)
        return refresh

    def _pin_stored(self, version: str, error: RegistryUnreachable) -> Refresh:
        before = self._slot.current
        if before is None or before.identity.version != version:
            self._restore(lambda entry: entry.identity.version == version)
        now = self._slot.current
        if now is None or now.identity.version != version:
            return Refresh(error.outcome, version, f"{error}; and the version is not kept on disk", error.detail)
        return self._write_pin(Refresh("unchanged" if now is before else "swapped", version), version)

    def _write_pin(self, refresh: Refresh, version: str | None) -> Refresh:
        self._slot.pinned = version
        if self._pin.write(version):
            return refresh
        return msgspec.structs.replace(refresh, reason="DATA_DIR cannot be written: a restart will not know of the pin")

    def _follow(self, role: Role, candidate: Candidate | None) -> None:
        """Have canary or shadow follow its alias. A refused candidate leaves the old model in the role."""
        current = self._slot.current
        if candidate is None or current is None or current.identity.is_same_version(candidate.identity):
            self.put(role, None)
            self.rollout.pop(role, None)
        else:
            self.rollout[role] = self._consider(role, candidate)

    def _is_asked_for(self, entry: StoredModel) -> bool:
        return entry.identity.version == self._slot.pinned or self._loader.is_asked_for(entry.identity)

    def _restore(self, fits: Callable[[StoredModel], object]) -> None:
        """Serve the last stored model that fits: the pinned one first, then those selected by today's settings."""
        pinned, selection = self._slot.pinned, self._loader.selection
        entries = [entry for entry in self._store.entries() if fits(entry)]
        entries.sort(key=lambda entry: (entry.identity.version != pinned, entry.selection != selection))
        for entry in entries:
            try:
                self.put("current", self._loader.restore(entry))
            except StoreCorrupt:
                continue  # logged by the store
            except Exception as error:
                self._listener.not_restored(entry, error)
            else:
                return

    def _consider(self, role: Role, candidate: Candidate, *, accept_interface: bool = False) -> Refresh:
        """Put one version in service, unless it is there already or a refusal of it stands."""
        identity, version = candidate.identity, candidate.identity.version
        if (refused := self._backoff.standing(role, identity)) is not None:
            return refused
        before = self._slot.get(role)
        if before is not None and before.identity.is_same_version(identity):
            self._describe(role, before, candidate)
            return Refresh("unchanged", version)
        try:
            callers_of = None if accept_interface else self._slot.current
            self.put(role, self._loader.load(candidate, callers_of, keep=role))
        except ModelRefused as error:
            return self._refuse(role, identity, error)
        except NothingToServe as error:
            return Refresh("nothing_to_serve", version, str(error))
        except RegistryUnreachable as error:
            if role == "current":
                self._slot.registry_answered(answered=False)
            return Refresh(error.outcome, version, str(error), error.detail)
        except (OSError, MemoryError) as error:
            # A fault of the machine, such as a full disk, and not of the model: the next look tries again.
            self._listener.not_loaded(version, error)
            return Refresh("failed", version, f"this machine could not load it: {_brief(error)}")
        except Exception as error:
            # A model can be strange in more ways than are foreseen, and none may cost more than its own refusal.
            self._listener.not_loaded(version, error)
            return self._refuse(role, identity, ModelRefused(f"it cannot be loaded: {type(error).__name__}"))
        return Refresh("swapped", version)

    def _describe(self, role: Role, before: ServedModel, candidate: Candidate) -> None:
        """Take over a change of stage, aliases or rule; and store the model again if that failed before."""
        now = msgspec.structs.replace(before, identity=candidate.identity, resolved_by=candidate.rule)
        changed = (before.identity, before.resolved_by) != (now.identity, now.resolved_by)
        if changed:
            self.put(role, now)
        if (store := self._loader.stores.get(role)) is None:
            return
        if store.status().last_error is None:
            if changed and role == "current":
                self._loader.describe(now)
            return
        try:
            self._loader.keep(now, role)
        except (ModelRefused, NothingToServe, RegistryUnreachable, OSError) as error:
            self._listener.not_kept(now, error)

    def _refuse(self, role: Role, identity: ModelIdentity, error: ModelRefused) -> Refresh:
        refresh = Refresh("refused", identity.version, str(error))
        if role == "current":
            self.last_refusal = refresh
        self._backoff.add(role, identity, refresh, error.check)
        self._listener.refused(role, identity, error)
        return refresh

    def put(self, role: Role, served: ServedModel | None) -> None:
        """Put a model in a role, or take it out with None, and tell of it."""
        before = self._slot.get(role)
        self._slot.put(role, served)
        self._listener.replaced(role, before, served)

    def _set_look_ups(self, look_ups: list[LookUp]) -> None:
        self.look_ups = tuple(look_ups)
        self._listener.looked_up(look_ups)

    def _report(self, refresh: Refresh) -> Refresh:
        self._listener.refreshed(refresh, self.look_ups)
        return refresh

    def _failed(self, error: Exception) -> Refresh:
        """Outcome of a fault of this machine, such as a full disk where the embedded registry is created."""
        self._listener.failed(error)
        return Refresh("failed", reason=f"this machine could not ask the registry: {_brief(error)}")


def _brief(error: BaseException) -> str:
    """Text of an error without paths of this machine."""
    return getattr(error, "strerror", None) or type(error).__name__
