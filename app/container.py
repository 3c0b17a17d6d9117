"""The collaborators of one application, injected into its routes by Litestar."""

from collections.abc import Iterable, Mapping

import msgspec
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from app.config.settings import Settings
from app.drift.monitor import DriftMonitor
from app.errors import NotFound
from app.models.disk.store import ModelStore
from app.models.refresh.keeper import ModelKeeper
from app.models.refresh.refresher import Refresher
from app.models.registry.card import ModelCards
from app.models.slot import ModelSlot
from app.outcomes.intake import Outcomes
from app.prediction_log.durable import DurableLog
from app.prediction_log.log import PredictionLog
from app.prediction_log.reading.reader import LogReader
from app.serving.admission import Admission
from app.serving.canary import CanaryRouter
from app.serving.executor import Executor
from app.serving.gate import Gate
from app.serving.shadow import Shadow
from app.serving.shutdown import Shutdown
from app.tasks import BackgroundTasks
from app.telemetry.dependencies import Dependency
from app.telemetry.gpu import GpuPoller
from app.telemetry.metrics import Metrics
from app.telemetry.request_log import RequestLog
from app.telemetry.system import SystemMonitor
from app.telemetry.tracing.current import Traces
from app.workers.following import Kept
from app.workers.joint import Joint

MOST_NAMED = 20
"""Most models that an error names."""


class Shared(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Stateful objects that all models of an application share, by name.

    Attributes:
        joint: Part of this worker in a service with several; None where it is the only one.
    """

    executor: Executor
    admission: Admission
    gate: Gate
    shutdown: Shutdown
    metrics: Metrics
    tasks: BackgroundTasks
    gpu: GpuPoller
    system: SystemMonitor
    registry: Dependency
    log_database: Dependency
    prediction_log: PredictionLog | DurableLog
    outcomes: Outcomes
    log_reader: LogReader
    request_log: RequestLog
    traces: Traces | None
    joint: Joint | None


class Services(Shared, frozen=True, kw_only=True, eq=False):
    """All stateful objects that answer for one model, by name: those of the model, and the shared ones.

    Attributes:
        settings: Settings of the service, those that choose a model being this model's.
        kept: What other workers need of the model.
        models: The services of all models by name, with these among them; the first model's are the application's.
    """

    settings: Settings
    slot: ModelSlot
    store: ModelStore
    refresher: Refresher
    keeper: ModelKeeper
    kept: Kept
    cards: ModelCards
    canary: CanaryRouter
    shadow: Shadow
    drift: DriftMonitor
    models: "Mapping[str, Services]"

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.settings.model_name

    def of(self, name: str) -> "Services":
        """The services of a model.

        Raises:
            NotFound: No model of this name is served here.
        """
        found = self.models.get(name)
        if found is None:
            raise NotFound(unknown_model(self.models))
        return found


def unknown_model(known: Iterable[str]) -> str:
    """What a request is told that names none of the known models."""
    names = list(known)
    if len(names) == 1:
        return f"There is no model of this name; the model served here is {names[0]}."
    listed = ", ".join(names[:MOST_NAMED]) + (f", and {len(names) - MOST_NAMED} more" if names[MOST_NAMED:] else "")
    return f"There is no model of this name; the models served here are {listed}."


InjectedServices = NamedDependency[SkipValidation[Services]]
"""Type of the parameter `services` by which a handler receives them."""
