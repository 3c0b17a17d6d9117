"""Construction of the collaborators of one application."""

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from app.auth import key_id_of
from app.config.settings import Settings
from app.container import Services, Shared
from app.drift.monitor import DriftMonitor
from app.drift.series import DriftSeries
from app.drift.store import ProfileStore
from app.drift.tracker import Options
from app.models.disk.batch_costs import BatchCosts
from app.models.disk.pin import Pin
from app.models.disk.store import ModelStore
from app.models.loader import ModelLoader
from app.models.process.channel import Channel
from app.models.process.client import WorkerProcess
from app.models.refresh.backoff import RefusalBackoff
from app.models.refresh.keeper import ModelKeeper, Turns
from app.models.refresh.listener import RefreshListener, RefreshMetrics
from app.models.refresh.refresher import Refresher
from app.models.registry.card import ModelCards
from app.models.registry.source import ModelSource
from app.models.slot import ModelSlot
from app.models.watch.noted import NotedSource
from app.models.watch.series import SlotSeries
from app.models.watch.traced import TracedLoader, TracedSource
from app.outcomes.intake import Outcomes
from app.prediction_log.durable import DurableLog
from app.prediction_log.log import PredictionLog
from app.prediction_log.noted import NotedWriter
from app.prediction_log.process import LogWriter, LogWriterProcess
from app.prediction_log.reading.reader import LogReader
from app.prediction_log.spool.left import LeftSpools, folder_of
from app.prediction_log.spool.segments import Spool
from app.prediction_log.status import Waiting
from app.routes.reasons import ServiceStatus
from app.serving.admission import Admission
from app.serving.canary import CanaryRouter
from app.serving.executor import THREADS, Executor
from app.serving.gate import Gate
from app.serving.shadow import Shadow
from app.serving.shutdown import Shutdown
from app.tasks import BackgroundTasks
from app.telemetry.dependencies import Dependency, DependencySeries
from app.telemetry.gpu import GpuPoller
from app.telemetry.metrics import Metrics
from app.telemetry.request_log import RequestLog
from app.telemetry.system import SystemMonitor, memory_bytes
from app.telemetry.tracing.current import Traces
from app.telemetry.tracing.process import SpanProcess, SpanSink
from app.workers.following import Kept, stores_of_others
from app.workers.joint import Joint
from app.workers.place import Place
from app.workers.team import Team
from app.workers.writing import SharedWriter

LOOK_PATIENCE_S = 60.0
"""Time after which a look into the registry hangs. It may start a process that imports MLflow, slowly if busy."""

log = logging.getLogger(__name__)


Sources = Callable[[Settings], ModelSource]
"""Makes the source of a model from the model's settings."""


def assemble(
    settings: Settings, nvml: Any, sources: Sources | None, log_writer: LogWriter | None, span_sink: SpanSink | None,
    place: Place | None = None,
) -> Services:  # fmt: skip
    """The collaborators of one application, those of its first model; for what is None, see `create_app`."""
    metrics, shutdown = Metrics(settings.metrics_prefix or ""), Shutdown()
    joint = None if place is None else Joint(Team(place, settings.api_workers))
    workers, index = (1, 0) if place is None else (settings.api_workers, place.index)
    registry, log_database = Dependency("registry", LOOK_PATIENCE_S), Dependency("prediction_log")
    if joint is not None:
        process = LogWriterProcess(settings.prediction_log_target)
        log_writer = SharedWriter(joint.team, process, lambda: shutdown.announced)
    log_writer = log_writer or LogWriterProcess(settings.prediction_log_target)
    log_writer = NotedWriter(log_writer, log_database)
    most_rows = settings.max_rows_in_flight
    chosen = settings.models
    sources = sources or partial(WorkerProcess, channel=Channel(chosen))
    slots = {one.model_name: ModelSlot(reported_at=f"/health/model/{quote(one.model_name)}") for one in chosen[1:]}
    slots = {chosen[0].model_name: ModelSlot()} | slots
    shared = Shared(
        executor=Executor(metrics, max(1, THREADS // workers)),
        admission=Admission(most_rows and -(-most_rows // workers), memory_bytes() // workers, settings.longest_wait),
        gate=Gate(-(-settings.max_requests_in_progress // workers), settings.longest_wait),
        shutdown=shutdown,
        metrics=metrics,
        tasks=BackgroundTasks(metrics),
        gpu=GpuPoller(nvml),
        system=SystemMonitor(settings.data_dir),
        prediction_log=_prediction_log(settings, log_writer, metrics, workers, index),
        outcomes=Outcomes(
            settings.prediction_log_target, list(slots.values()), metrics.registry, settings.outcome_window_rows
        ),
        registry=registry,
        log_database=log_database,
        log_reader=LogReader(settings.prediction_log_target, enabled=settings.prediction_log_target.keep_rows > 0),
        request_log=RequestLog(),
        traces=_traces(settings, metrics, span_sink),
        joint=joint,
    )
    metrics.register(
        shared.gpu, SlotSeries(slots), shared.admission, shared.gate, DependencySeries(registry, log_database)
    )
    refreshes, turns, models = RefreshMetrics(metrics.registry), Turns(), dict[str, Services]()
    for one in chosen:
        name, asking = one.model_name, "asking the registry" if one.place is None else "reading MODEL_PATH"
        listener = RefreshListener(refreshes, name, asking)
        source = NotedSource(sources(one), registry)
        models[name] = _of_model(one, slots[name], source, listener, turns, shared, models)
    services = models[chosen[0].model_name]
    metrics.register(ServiceStatus(services))
    if settings.drift:
        metrics.register(DriftSeries(lambda: [tracker for one in models.values() for tracker in one.drift.trackers()]))
    if joint is not None:
        drift = {name: one.drift for name, one in models.items()}
        joint.share([one.kept for one in models.values()], drift, shared.tasks, metrics)
    return services


def _of_model(
    settings: Settings, slot: ModelSlot, source: ModelSource, listener: RefreshListener, turns: Turns, shared: Shared,
    models: dict[str, Services],
) -> Services:  # fmt: skip
    """The collaborators that answer for one model.

    Args:
        settings: Settings of the model.
        slot: Its place.
        source: Its registry.
        listener: Told what its refresher does.
        turns: The thread in which it is looked after.
        shared: What it shares with the other models.
        models: Where all models are, by name.
    """
    store = ModelStore(
        settings.data_dir / "models", settings.source_uri, settings.model_name, settings.model_store_versions
    )
    costs = BatchCosts(settings.data_dir / "calibrations.json")
    if shared.traces is None:
        loader = ModelLoader(settings, source, store, costs)
    else:
        source = TracedSource(source, shared.traces)
        loader = TracedLoader(settings, source, store, costs, shared.traces)
    if shared.joint is not None:
        loader.stores |= stores_of_others(settings.data_dir / "models", settings.source_uri, settings.model_name)
    pin = Pin(settings.data_dir / "pin.json", settings.source_uri, settings.model_name)
    refresher = Refresher(slot, source, loader, store, pin, listener, RefusalBackoff(settings.model_cache_ttl))
    keeper = ModelKeeper(slot, source, refresher, settings.model_cache_ttl, turns=turns)
    return Services(
        **{name: getattr(shared, name) for name in Shared.__struct_fields__},
        settings=settings,
        slot=slot,
        store=store,
        refresher=refresher,
        keeper=keeper,
        kept=Kept(settings.model_name, slot, loader, refresher, keeper),
        cards=ModelCards(source),
        canary=CanaryRouter(slot, settings.model_canary_percent, settings.model_canary_header),
        shadow=Shadow(slot, shared.metrics, settings.model_shadow_percent),
        drift=DriftMonitor(
            settings.drift,
            slot.answering,
            Options(settings.drift_window, settings.drift_baseline_rows),
            ProfileStore(settings.profiles),
        ),
        models=models,
    )


def _traces(settings: Settings, metrics: Metrics, sink: SpanSink | None) -> Traces | None:
    if not settings.traces or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    from app.telemetry.tracing.tracer import Tracer  # OpenTelemetry is an extra

    return Tracer(sink or SpanProcess(), metrics.registry)


def _prediction_log(
    settings: Settings, writer: LogWriter, metrics: Metrics, workers: int, index: int
) -> PredictionLog | DurableLog:
    target = settings.prediction_log_target
    if target.durable:
        spool = Spool(target.spool, settings.prediction_log_spool_bytes // workers, folder_of(index))
        metrics.register(Waiting(lambda: spool.rows, lambda: spool.size))
        left = LeftSpools(target.spool, workers) if index == 0 else None
        return DurableLog(writer, metrics, spool, key_id_of(settings.api_keys), left)
    if any(target.spool.rglob("*.spool")):
        log.warning("rows of an earlier start wait in the spool, and only PREDICTION_LOG=durable writes them")
    queue = PredictionLog(writer, metrics, enabled=target.keep_rows > 0, key_id_of=key_id_of(settings.api_keys))
    if queue.enabled:
        metrics.register(Waiting(lambda: queue.status.queued))
    return queue
