"""The collaborators of one application, injected into its routes by Litestar."""

import msgspec
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from app.config.settings import Settings
from app.drift.monitor import DriftMonitor
from app.models.disk.store import ModelStore
from app.models.keeper import ModelKeeper
from app.models.refresher import Refresher
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
from app.workers.joint import Joint


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """All stateful objects of an application, by name.

    Attributes:
        joint: Part of this worker in a service with several; None where it is the only one.
    """

    settings: Settings
    slot: ModelSlot
    store: ModelStore
    refresher: Refresher
    keeper: ModelKeeper
    cards: ModelCards
    canary: CanaryRouter
    shadow: Shadow
    executor: Executor
    admission: Admission
    gate: Gate
    shutdown: Shutdown
    metrics: Metrics
    tasks: BackgroundTasks
    drift: DriftMonitor
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


InjectedServices = NamedDependency[SkipValidation[Services]]
"""Type of the parameter `services` by which a handler receives them."""
