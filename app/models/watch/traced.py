"""Looks into the registry and loads of models, as spans of their own."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from app.config.settings import Settings
from app.models.disk.batch_costs import BatchCosts
from app.models.disk.store import ModelStore, StoredModel
from app.models.identity import ModelIdentity
from app.models.loader import ModelLoader
from app.models.registry.source import Candidate, ModelSource
from app.models.served import ServedModel
from app.models.slot import Role
from app.models.watch.around import SourceAround
from app.telemetry.tracing.current import Attribute, Traces

T = TypeVar("T")


class TracedSource(SourceAround):
    """A source of models whose looks are recorded.

    Args:
        source: The source.
        traces: Records them.
    """

    def __init__(self, source: ModelSource, traces: Traces) -> None:
        super().__init__(source)
        self._traces = traces

    def _ask(self, question: Callable[[], T]) -> T:
        return self._traces.timed("registry look", question)


class TracedLoader(ModelLoader):
    """A loader whose loads are recorded; see `ModelLoader`.

    Args:
        settings: As of `ModelLoader`.
        source: As of `ModelLoader`.
        store: As of `ModelLoader`.
        batch_costs: As of `ModelLoader`.
        traces: Records the loads.
    """

    def __init__(
        self, settings: Settings, source: ModelSource, store: ModelStore, batch_costs: BatchCosts, traces: Traces
    ) -> None:
        super().__init__(settings, source, store, batch_costs)
        self._traces = traces

    def load(self, candidate: Candidate, current: ServedModel | None, *, keep: Role | None) -> ServedModel:
        """See `ModelLoader.load`."""
        work = partial(super().load, candidate, current, keep=keep)
        return self._traces.timed("model load", work, _named(candidate.identity))

    def restore(self, entry: StoredModel, role: Role = "current") -> ServedModel:
        """See `ModelLoader.restore`."""
        return self._traces.timed("model load", partial(super().restore, entry, role), _named(entry.identity))


def _named(identity: ModelIdentity) -> dict[str, Attribute]:
    return {"madrone.model.name": identity.name, "madrone.model.version": identity.version}
