"""One version from the registry, or from the disk, into a role of the slot."""

from collections.abc import Callable

import msgspec

from app.models.disk.entry import StoreCorrupt, StoredModel
from app.models.disk.store import ModelStore
from app.models.identity import ModelIdentity
from app.models.loader import ModelLoader
from app.models.refresh.backoff import RefusalBackoff
from app.models.refresh.listener import RefreshListener
from app.models.refresh.outcome import Refresh, brief
from app.models.refusal import ModelRefused
from app.models.registry.source import Candidate, NothingToServe, RegistryUnreachable
from app.models.served import ServedModel
from app.models.slot import ModelSlot, Role


class Swapper:
    """Makes versions ready to serve, and puts them in service; a failure leaves the old model there.

    Args:
        slot: Holds the models in service.
        loader: Makes a version ready to serve.
        store: Last known good models on disk.
        listener: Told of refusals and swaps.
        backoff: Refused versions.

    Attributes:
        last_refusal: Last version refused as the model in service.
    """

    def __init__(
        self,
        slot: ModelSlot,
        loader: ModelLoader,
        store: ModelStore,
        listener: RefreshListener,
        backoff: RefusalBackoff,
    ) -> None:
        self.last_refusal: Refresh | None = None
        self._slot = slot
        self._loader = loader
        self._store = store
        self._listener = listener
        self._backoff = backoff

    def swap(self, role: Role, candidate: Candidate, *, accept_interface: bool = False) -> Refresh:
        """Put one version in service, unless it is there already or a refusal of it stands.

        Args:
            role: Where to.
            candidate: The version.
            accept_interface: Whether callers of the model in use need not be able to call this one.
        """
        ready = self.ready(role, candidate, accept_interface=accept_interface)
        return ready if isinstance(ready, Refresh) else self.put_ready(role, candidate, ready)

    def ready(self, role: Role, candidate: Candidate, *, accept_interface: bool = False) -> ServedModel | Refresh:
        """A version ready for `put_ready`, or why it cannot be served; nothing in service changes. See `swap`."""
        identity, version = candidate.identity, candidate.identity.version
        if (refused := self._backoff.standing(role, identity)) is not None:
            return refused
        before = self._slot.get(role)
        if before is not None and before.identity.is_same_version(identity):
            return before
        try:
            callers_of = None if accept_interface else self._slot.current
            return self._loader.load(candidate, callers_of, keep=role)
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
            return Refresh("failed", version, f"this machine could not load it: {brief(error)}")
        except Exception as error:
            # A model can be strange in more ways than are foreseen, and none may cost more than its own refusal.
            self._listener.not_loaded(version, error)
            return self._refuse(role, identity, ModelRefused(f"it cannot be loaded: {type(error).__name__}"))

    def put_ready(self, role: Role, candidate: Candidate, ready: ServedModel) -> Refresh:
        """Put in service what `ready` gave for a candidate."""
        if ready is self._slot.get(role):
            self._describe(role, ready, candidate)
            return Refresh("unchanged", candidate.identity.version)
        self.put(role, ready)
        return Refresh("swapped", candidate.identity.version)

    def put(self, role: Role, served: ServedModel | None) -> None:
        """Put a model in service, or take it out with None."""
        before = self._slot.get(role)
        self._slot.put(role, served)
        self._listener.replaced(role, before, served)

    def restore(self, fits: Callable[[StoredModel], object]) -> None:
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
