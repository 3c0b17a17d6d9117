"""Looks into the registry and loads of models, as spans of their own."""

from functools import partial
from pathlib import Path

from app.codecs.rules import FloatArray
from app.config.settings import Settings
from app.models.artifact import ModelContent
from app.models.disk.batch_costs import BatchCosts
from app.models.disk.store import ModelStore, StoredModel
from app.models.identity import ModelIdentity
from app.models.loader import ModelLoader
from app.models.registry.source import Candidate, Fetched, ModelSource, Offer
from app.models.served import ServedModel
from app.telemetry.tracing.current import Attribute, Traces


class TracedSource:
    """A source of models whose looks are recorded.

    Args:
        source: The source.
        traces: Records them.
    """

    def __init__(self, source: ModelSource, traces: Traces) -> None:
        self._source = source
        self._traces = traces

    def look(self) -> Offer:
        """See `Registry.look`."""
        return self._traces.timed("registry look", self._source.look)

    def version(self, number: str) -> Candidate:
        """See `Registry.version`."""
        return self._traces.timed("registry look", partial(self._source.version, number))

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `Registry.fetch`."""
        return self._source.fetch(identity, destination)

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """See `app.models.registry.worker.ModelWorker.build`."""
        return self._source.build(directory, digest)

    def raw_scores(self, booster: Path, rows: FloatArray) -> FloatArray:
        """See `app.models.registry.worker.ModelWorker.raw_scores`."""
        return self._source.raw_scores(booster, rows)

    def close(self) -> None:
        """End a call under way."""
        self._source.close()


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

    def load(self, candidate: Candidate, current: ServedModel | None, *, keep: bool) -> ServedModel:
        """See `ModelLoader.load`."""
        work = partial(super().load, candidate, current, keep=keep)
        return self._traces.timed("model load", work, _named(candidate.identity))

    def restore(self, entry: StoredModel) -> ServedModel:
        """See `ModelLoader.restore`."""
        return self._traces.timed("model load", partial(super().restore, entry), _named(entry.identity))


def _named(identity: ModelIdentity) -> dict[str, Attribute]:
    return {"madrone.model.name": identity.name, "madrone.model.version": identity.version}
