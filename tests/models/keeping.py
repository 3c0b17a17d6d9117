"""A keeper as the service builds it, with the registry called in the test's own process."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from app.config.settings import Settings
from app.models.disk.batch_costs import BatchCosts
from app.models.disk.pin import Pin
from app.models.disk.store import ModelStore
from app.models.identity import ModelIdentity
from app.models.loader import ModelLoader
from app.models.process.worker import ModelWorker
from app.models.refresh.backoff import RefusalBackoff
from app.models.refresh.keeper import ModelKeeper
from app.models.refresh.listener import RefreshListener, RefreshMetrics
from app.models.refresh.refresher import Refresher
from app.models.registry.source import Candidate, Fetched, Offer
from app.models.slot import ModelSlot
from app.models.watch.series import SlotSeries
from app.telemetry.metrics import Metrics


class Source(ModelWorker):
    """Asks the registry in this process, and tells which versions were fetched. What is put in `failing` is raised."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.fetched: list[str] = []
        self.failing: Exception | None = None

    def look(self) -> Offer:
        if self.failing is not None:
            raise self.failing
        return super().look()

    def version(self, number: str) -> Candidate:
        if self.failing is not None:
            raise self.failing
        return super().version(number)

    def move_pin(self, number: str | None) -> None:
        if self.failing is not None and self._settings.model_pin_alias is not None:
            raise self.failing
        super().move_pin(number)

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        self.fetched.append(identity.version)
        return super().fetch(identity, destination)


class Kept(msgspec.Struct, frozen=True):
    """A keeper and what it works with."""

    name: str
    keeper: ModelKeeper
    refresher: Refresher
    store: ModelStore
    slot: ModelSlot
    source: Source
    metrics: Metrics
    batch_costs: BatchCosts

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"model_name": self.name, **labels})

    def served_versions(self) -> list[dict[str, str]]:
        """Labels of every `model_info` series."""
        (family,) = (family for family in self.metrics.registry.collect() if family.name == "model_info")
        return [sample.labels for sample in family.samples]


def keep(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Kept:
    slot, source = ModelSlot(clock), Source(settings)
    metrics = Metrics()
    metrics.register(SlotSeries({settings.model_name: slot}))
    batch_costs = BatchCosts(settings.data_dir / "calibrations.json")
    store = ModelStore(
        settings.data_dir / "models", settings.source_uri, settings.model_name, settings.model_store_versions
    )
    loader = ModelLoader(settings, source, store, batch_costs)
    pin = Pin(settings.data_dir / "pin.json", settings.source_uri, settings.model_name)
    listener = RefreshListener(RefreshMetrics(metrics.registry), settings.model_name)
    refresher = Refresher(slot, source, loader, store, pin, listener, RefusalBackoff(settings.model_cache_ttl, clock))
    keeper = ModelKeeper(slot, source, refresher, settings.model_cache_ttl, clock)
    return Kept(settings.model_name, keeper, refresher, store, slot, source, metrics, batch_costs)
