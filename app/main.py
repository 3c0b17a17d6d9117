"""The application factory: only builds the collaborators and composes the ASGI applications."""

import asyncio
import gc
import logging
import logging.config
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from app.config.settings import Settings
from app.container import Services
from app.models.backoff import RefusalBackoff
from app.models.disk.batch_costs import BatchCosts
from app.models.disk.pin import Pin
from app.models.disk.store import ModelStore
from app.models.keeper import ModelKeeper
from app.models.listener import RefreshListener
from app.models.loader import ModelLoader
from app.models.refresher import Refresher
from app.models.registry.noted import NotedSource
from app.models.registry.process import WorkerProcess
from app.models.registry.source import ModelSource
from app.models.slot import ModelSlot
from app.predict.compressed import CompressedAnswers
from app.predict.cors import CorsHeaders
from app.predict.edge import Edge
from app.predict.handlers import Predictions
from app.predict.rate_limit import RateLimit
from app.predict.routing import DirectRoutes, RouteTable
from app.predict.scoring import Scoring
from app.predict.straight import StraightWay
from app.prediction_log.durable import DurableLog
from app.prediction_log.log import PredictionLog
from app.prediction_log.noted import NotedWriter
from app.prediction_log.process import LogWriter, LogWriterProcess
from app.prediction_log.segments import Spool
from app.prediction_log.status import Waiting
from app.problems import to_answer
from app.protocols.wiring import prediction_routes, protocol_handlers
from app.routes.docs import assets_router, openapi_config
from app.routes.health import HealthController
from app.routes.hooks import hooks_router
from app.routes.info import info, metrics
from app.routes.predict import PredictController
from app.routes.reasons import ServiceStatus
from app.serving.admission import Admission
from app.serving.canary import CanaryRouter
from app.serving.executor import Executor
from app.serving.gate import Gate
from app.serving.shadow import Shadow
from app.serving.shutdown import Shutdown, watch_parent
from app.tasks import BackgroundTasks
from app.telemetry.dependencies import Dependency, DependencySeries
from app.telemetry.exporter import MetricsServer
from app.telemetry.gpu import GpuPoller
from app.telemetry.logging import logging_config
from app.telemetry.loop_lag import watch_loop
from app.telemetry.metrics import Metrics
from app.telemetry.middleware import RequestTelemetry
from app.telemetry.request_log import RequestLog
from app.telemetry.start_status import show_start
from app.telemetry.system import SystemMonitor, memory_bytes

LOOK_PATIENCE_S = 60.0
"""Time after which a look into the registry hangs. It may start a process that imports MLflow, slowly if busy."""

log = logging.getLogger(__name__)


class Application:
    """The service as an ASGI application.

    Attributes:
        services: The collaborators of this application.
        litestar: Answers all routes but the direct ones, and runs the lifespan.
        entrance: The first of the applications that a request comes to.
    """

    def __init__(self, entrance: ASGIApp, litestar: Litestar, services: Services) -> None:
        self.litestar = litestar
        self.services = services
        self.entrance = entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the lifespan."""
        await self.entrance(scope, receive, send)


def create_app(
    settings: Settings, *, nvml: Any = None, source: ModelSource | None = None, log_writer: LogWriter | None = None
) -> Application:
    """Build the application; nothing runs until its lifespan is entered.

    Args:
        settings: All settings of the service.
        nvml: A stand-in for the `pynvml` module, for tests.
        source: Source of models; by default a process that speaks to the registry.
        log_writer: Writer of the prediction log; by default a process that holds the database connection.
    """
    target = settings.prediction_log_target
    services = _services(settings, nvml, source or WorkerProcess(settings), log_writer or LogWriterProcess(target))
    cors = CORSConfig(allow_origins=list(settings.cors_origins)) if settings.cors_origins else None
    litestar = _litestar(services, cors)
    paths = frozenset(route.path for route in litestar.routes)
    scoring = Scoring(services)
    limit = RateLimit(settings.rate_limit) if settings.rate_limit else None
    routes = RouteTable(_direct_routes(services, scoring, limit, cors))
    app = Edge(CompressedAnswers(DirectRoutes(litestar, routes), services.executor.in_thread))
    telemetry = RequestTelemetry(app, services.metrics, services.request_log, paths)
    if settings.grpc_port is not None:
        from app.protocols.open_inference.rpc.server import RpcServer  # grpcio is an extra

        litestar.state["rpc"] = RpcServer(services, scoring, limit, telemetry)
    # Answers to other web origins have headers of their own, refusals as well.
    return Application(StraightWay(telemetry, services, routes) if cors is None else telemetry, litestar, services)


def serve_app() -> Application:
    """The factory that Granian's worker calls: settings from the environment, logs as JSON."""
    settings = Settings.from_environ(os.environ)
    logging.config.dictConfig(logging_config(settings.effective_log_level))
    app = create_app(settings)
    # Imported modules stay for good. Searching them for garbage would stop every request for some 50 ms now and then.
    gc.collect()
    gc.freeze()
    return app


def _direct_routes(
    services: Services, scoring: Scoring, limit: RateLimit | None, cors: CORSConfig | None
) -> dict[str, ASGIApp]:
    """The prediction routes, by path."""
    routes: dict[str, ASGIApp] = Predictions(scoring).routes | prediction_routes(services, scoring)
    if limit is not None:
        routes = {path: limit.around(route) for path, route in routes.items()}
    if cors is not None:
        routes = {path: CorsHeaders(route, cors) for path, route in routes.items()}
    return routes


def _litestar(services: Services, cors: CORSConfig | None) -> Litestar:
    """The part of the application that Litestar answers."""
    settings = services.settings
    route_handlers: list[Any] = [PredictController, HealthController, info, *protocol_handlers()]
    if settings.enable_prometheus:
        route_handlers.append(metrics)
    if settings.mlflow_webhook_secret is not None:
        route_handlers.append(hooks_router())
    if settings.api_debug:
        route_handlers.append(assets_router())
    return Litestar(
        route_handlers=route_handlers,
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        state=State({"services": services}),
        lifespan=[_lifespan],
        exception_handlers={Exception: to_answer},
        openapi_config=openapi_config(settings),
        cors_config=cors,
        request_max_body_size=settings.max_json_bytes,  # of the admin's routes; predictions read their own
        logging_config=None,
        debug=False,  # Litestar's debug answers show stack traces
    )


def _services(settings: Settings, nvml: Any, source: ModelSource, log_writer: LogWriter) -> Services:
    registry, log_database = Dependency("registry", LOOK_PATIENCE_S), Dependency("prediction_log")
    source, log_writer = NotedSource(source, registry), NotedWriter(log_writer, log_database)
    gpu = GpuPoller(nvml)
    slot = ModelSlot()
    admission = Admission(settings.max_rows_in_flight, memory_bytes(), settings.longest_wait)
    metrics = Metrics()
    gate = Gate(settings.max_requests_in_progress, settings.longest_wait)
    metrics.register(gpu, slot, admission, gate, DependencySeries(registry, log_database))
    store = ModelStore(
        settings.data_dir / "models", settings.source_uri, settings.model_name, settings.model_store_versions
    )
    loader = ModelLoader(settings, source, store, BatchCosts(settings.data_dir / "calibrations.json"))
    pin = Pin(settings.data_dir / "pin.json", settings.source_uri, settings.model_name)
    listener = RefreshListener(
        metrics.registry,
        settings.model_name,
        "asking the registry" if settings.place is None else "reading MODEL_PATH",
    )
    refresher = Refresher(slot, source, loader, store, pin, listener, RefusalBackoff(settings.model_cache_ttl))
    services = Services(
        settings=settings,
        slot=slot,
        store=store,
        refresher=refresher,
        keeper=ModelKeeper(slot, source, refresher, settings.model_cache_ttl),
        canary=CanaryRouter(slot, settings.model_canary_percent, settings.model_canary_header),
        shadow=Shadow(slot, metrics, settings.model_shadow_percent),
        executor=Executor(metrics),
        admission=admission,
        gate=gate,
        shutdown=Shutdown(),
        metrics=metrics,
        tasks=BackgroundTasks(metrics),
        gpu=gpu,
        system=SystemMonitor(settings.data_dir),
        prediction_log=_prediction_log(settings, log_writer, metrics),
        registry=registry,
        log_database=log_database,
        request_log=RequestLog(),
    )
    metrics.register(ServiceStatus(services))
    return services


def _prediction_log(settings: Settings, writer: LogWriter, metrics: Metrics) -> PredictionLog | DurableLog:
    target = settings.prediction_log_target
    if target.durable:
        spool = Spool(target.spool, settings.prediction_log_spool_bytes)
        metrics.register(Waiting(lambda: spool.rows, lambda: spool.size))
        return DurableLog(writer, metrics, spool)
    if any(target.spool.glob("*.spool")):
        log.warning("rows of an earlier start wait in the spool, and only PREDICTION_LOG=durable writes them")
    queue = PredictionLog(writer, metrics, enabled=target.keep_rows > 0)
    if queue.enabled:
        metrics.register(Waiting(lambda: queue.status.queued))
    return queue


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncGenerator[None, None]:
    services: Services = app.state.services
    settings = services.settings
    async with services.tasks as tasks:
        if sys.stderr.isatty():
            tasks.start("start-status", partial(show_start, lambda: services.slot.current is not None))
        tasks.start("model-keeper", services.keeper.run)
        tasks.start("gpu-poller", services.gpu.run)
        tasks.start("disk-poller", services.system.run)
        tasks.start("parent-watch", watch_parent)
        tasks.start("loop-lag", partial(watch_loop, services.metrics))
        if settings.model_shadow_alias is not None:
            tasks.start("shadow", services.shadow.run)
        if services.prediction_log.enabled:
            tasks.start("prediction-log", services.prediction_log.run)
        if settings.enable_prometheus:
            exporter = MetricsServer(settings.api_host, settings.prometheus_port, services.metrics)
            tasks.start("metrics-server", exporter.run)
        rpc = app.state.get("rpc")
        if rpc is not None:
            tasks.start("grpc-server", rpc.run)
        services.shutdown.listen()
        yield
        if rpc is not None:
            await rpc.stop()  # while the other tasks run, which the calls in progress need
    await asyncio.to_thread(services.request_log.close)
    services.keeper.close()
    services.executor.close()
    services.shadow.close()
    await asyncio.to_thread(services.slot.close)
    await asyncio.to_thread(services.prediction_log.close)
