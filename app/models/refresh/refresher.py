"""One look into the registry: the version that it prefers goes into the slot, if it passes every check.

The steps are resolve, fetch, build, check, warm up, swap. A failure at any of them leaves the old model in service.
"""

import msgspec

from app.models.disk.entry import StoredModel
from app.models.disk.pin import Pin
from app.models.disk.store import ModelStore
from app.models.loader import Loading, ModelLoader
from app.models.refresh.backoff import RefusalBackoff
from app.models.refresh.listener import RefreshListener
from app.models.refresh.outcome import Refresh, brief, unloaded
from app.models.refresh.swapper import Swapper
from app.models.registry.source import (
    Candidate,
    LookUp,
    ModelSource,
    ModelUnknown,
    Offer,
    RegistryUnreachable,
    VersionUnknown,
)
from app.models.slot import ROLES, ModelSlot, Role


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
        rollout: Outcome of the last look for canary and shadow, where their aliases name a version.
        swapper: Puts versions in service.
    """

    def __init__(
        self, slot: ModelSlot, source: ModelSource, loader: ModelLoader, store: ModelStore, pin: Pin,
        listener: RefreshListener, backoff: RefusalBackoff,
    ) -> None:  # fmt: skip
        self.look_ups: tuple[LookUp, ...] = ()
        self.rollout: dict[Role, Refresh] = {}
        self._slot = slot
        self._source = source
        self._loader = loader
        self._pin = pin
        self._listener = listener
        self._backoff = backoff
        self.swapper = Swapper(slot, loader, store, listener, backoff)

    @property
    def loading(self) -> Loading | None:
        """The load under way; None while there is none."""
        return self._loader.loading

    @property
    def last_refusal(self) -> Refresh | None:
        """Last version refused as the model in service."""
        return self.swapper.last_refusal

    def start(self) -> None:
        """Serve the model of the last process before the first look, if the settings still ask for it."""
        self._slot.pinned = self._pin.read()
        if self._slot.current is None and not self._slot.unloaded:  # by an order that another worker has taken
            self.swapper.restore(self._is_asked_for)

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

        While the registry is down, a version stored on disk can be pinned, unless the registry is to tell of the pin.
        """
        return self._report(self._pin_version(version))

    def unpin(self) -> Refresh:
        """Serve the version that the registry prefers again."""
        if (failed := self._tell_of_pin(None)) is not None:
            return self._report(failed)
        self._slot.pinned = None
        written = self._pin.write(None)
        return _noting(self.look(retry_refused=True), written=written)

    def unload(self) -> Refresh:
        """Serve no version any more. Requests under way are answered."""
        for role in reversed(ROLES):
            self.swapper.put(role, None)
        self.rollout.clear()
        return self._report(unloaded())

    def _look(self) -> Refresh:
        if self._slot.current is None:
            self._listener.asking()
        try:
            offer = self._source.look()
            pinned = self._pinned(offer)
        except ModelUnknown as error:
            self._slot.registry_answered(answered=True)
            self.look_ups = ()
            return Refresh("model_unknown", reason=str(error))
        except RegistryUnreachable as error:
            self._slot.registry_answered(answered=False)
            if self._slot.current is None:
                self.swapper.restore(self._is_asked_for)
            return Refresh(error.outcome, reason=str(error), detail=error.detail)
        except Exception as error:
            return self._failed(error)
        self._slot.registry_answered(answered=True, alias_missing=offer.alias_missing)
        refresh = self._take(offer, pinned)
        self._follow("canary", offer.canary)
        self._follow("shadow", offer.shadow)
        return refresh

    def _pinned(self, offer: Offer) -> Candidate | None:
        """The pinned version; None where there is none, or where it is gone."""
        if offer.pin is not msgspec.UNSET:
            self._follow_pin(offer.pin)
            return offer.pinned
        if self._slot.pinned is None:
            return None
        try:
            return self._source.version(self._slot.pinned)
        except (VersionUnknown, ModelUnknown):
            return None

    def _follow_pin(self, version: str | None) -> None:
        """Take over the pin that the registry tells of: it may have been moved elsewhere."""
        if version != self._slot.pinned:
            self._listener.pin_moved(version)
            self._slot.pinned = version
            self._pin.write(version)
            self._backoff.clear()  # a version that is pinned is tried again, and so is what comes after a pin

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
            refresh = self.swapper.swap("current", candidate, accept_interface=candidate is pinned)
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
        ready = self.swapper.ready("current", candidate, accept_interface=True)
        if isinstance(ready, Refresh):
            return ready
        if (failed := self._tell_of_pin(version)) is not None:
            return failed
        refresh = self.swapper.put_ready("current", candidate, ready)
        self.look_ups = (LookUp(candidate.rule, "found", version),)
        return self._keep_pin(refresh, version)

    def _pin_stored(self, version: str, error: RegistryUnreachable) -> Refresh:
        if (failed := self._tell_of_pin(version)) is not None:
            return failed
        before = self._slot.current
        if before is None or before.identity.version != version:
            self.swapper.restore(lambda entry: entry.identity.version == version)
        now = self._slot.current
        if now is None or now.identity.version != version:
            return Refresh(error.outcome, version, f"{error}; and the version is not kept on disk", error.detail)
        return self._keep_pin(Refresh("unchanged" if now is before else "swapped", version), version)

    def _tell_of_pin(self, version: str | None) -> Refresh | None:
        """Move MODEL_PIN_ALIAS, if it is set. None if all services learn of the pin, else why they do not."""
        try:
            self._source.move_pin(version)
        except (VersionUnknown, ModelUnknown) as error:
            unknown = "model_unknown" if isinstance(error, ModelUnknown) else "version_unknown"
            return Refresh(unknown, version, str(error))
        except RegistryUnreachable as error:
            reason = f"{error}; nothing changes until a look finds that MODEL_PIN_ALIAS has moved"
            return Refresh(error.outcome, version, reason, error.detail)
        except Exception as error:
            return self._failed(error)
        return None

    def _keep_pin(self, refresh: Refresh, version: str) -> Refresh:
        self._slot.pinned = version
        return _noting(refresh, written=self._pin.write(version))

    def _follow(self, role: Role, candidate: Candidate | None) -> None:
        """Have canary or shadow follow its alias. A refused candidate leaves the old model in the role."""
        current = self._slot.current
        if candidate is None or current is None or current.identity.is_same_version(candidate.identity):
            self.swapper.put(role, None)
            self.rollout.pop(role, None)
        else:
            self.rollout[role] = self.swapper.swap(role, candidate)

    def _is_asked_for(self, entry: StoredModel) -> bool:
        return entry.identity.version == self._slot.pinned or self._loader.is_asked_for(entry.identity)

    def _set_look_ups(self, look_ups: list[LookUp]) -> None:
        self.look_ups = tuple(look_ups)
        self._listener.looked_up(look_ups)

    def _report(self, refresh: Refresh) -> Refresh:
        self._listener.refreshed(refresh, self.look_ups)
        return refresh

    def _failed(self, error: Exception) -> Refresh:
        """Outcome of a fault of this machine, such as a full disk where the embedded registry is created."""
        self._listener.failed(error)
        return Refresh("failed", reason=f"this machine could not ask the registry: {brief(error)}")


def _noting(refresh: Refresh, *, written: bool) -> Refresh:
    """Outcome of an order whose pin was written to the disk or not."""
    if written:
        return refresh
    return msgspec.structs.replace(refresh, reason="DATA_DIR cannot be written: a restart will not know of the pin")
