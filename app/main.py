"""The application factory: only builds the collaborators and composes the ASGI applications."""

import asyncio
import gc
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

from app.assembly import Sources, assemble
from app.config.settings import Settings
from app.console.card import card_picture, model_card
from app.console.facts import model_facts
from app.console.live import Live, live
from app.console.page import PageForBrowsers, page_file
from app.container import Services
from app.predict.compressed import CompressedAnswers
from app.predict.cors import CorsHeaders
from app.predict.edge import Edge
from app.predict.handlers import own_routes
from app.predict.rate_limit import RateLimit
from app.predict.routing import DirectRoutes, RouteTable
from app.predict.scoring import Scorings
from app.predict.straight import StraightWay
from app.prediction_log.process import LogWriter
from app.problems import to_answer
from app.protocols.wiring import prediction_routes, protocol_handlers
from app.routes.docs import assets_router, openapi_config
from app.routes.drift import drift, named_drift
from app.routes.health import HealthController
from app.routes.hooks import hooks_router
from app.routes.info import info, metrics
from app.routes.outcomes import OutcomesController
from app.routes.predict import PredictController
from app.routes.prediction_log import read_predictions
from app.serving.shutdown import closing, watch_parent
from app.telemetry.exporter import MetricsServer
from app.telemetry.logging import logging_config
from app.telemetry.loop_lag import watch_loop
from app.telemetry.middleware import RequestTelemetry
from app.telemetry.start_status import show_start
from app.telemetry.tracing.middleware import TracedRequests
from app.telemetry.tracing.process import SpanSink
from app.workers.forwarding import Forwarding
from app.workers.place import Place


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
        if self.services.shutdown.leaving:
            send = closing(send)
        await self.entrance(scope, receive, send)


def create_app(
    settings: Settings, *, nvml: Any = None, sources: Sources | None = None, log_writer: LogWriter | None = None,
    span_sink: SpanSink | None = None, ports: bool = True, place: Place | None = None,
) -> Application:  # fmt: skip
    """Build the application; nothing runs until its lifespan is entered.

    Args:
        settings: All settings of the service.
        nvml: A stand-in for the `pynvml` module, for tests.
        sources: Makes the source of each model; by default a process that speaks to the registry, one for all.
        log_writer: Writer of the prediction log; by default a process that holds the database connection.
        span_sink: Exporter of traces, if there are any; by default a process that sends them to a collector.
        ports: Whether it listens on PROMETHEUS_PORT and GRPC_PORT; not where another server has several of it.
        place: Where the workers of the service meet; None where there is one.
    """
    services = assemble(settings, nvml, sources, log_writer, span_sink, place)
    settings = services.settings
    cors = CORSConfig(allow_origins=list(settings.cors_origins)) if settings.cors_origins else None
    litestar = _litestar(services, cors)
    litestar.state["ports"] = ports
    paths = frozenset(route.path for route in litestar.routes)
    scorings = Scorings(services)
    limit = _rate_limit(services) if settings.rate_limit else None
    routes = RouteTable(_direct_routes(services, scorings, limit, cors))
    inside: ASGIApp = PageForBrowsers(litestar) if settings.console else litestar
    if services.joint is not None:
        inside = Forwarding(inside, services.joint.team, settings.max_json_bytes, settings.request_timeout)
    app = Edge(CompressedAnswers(DirectRoutes(inside, routes), services.executor.in_thread))
    telemetry = RequestTelemetry(app, services.metrics, services.request_log, paths, services.traces)
    if ports and settings.grpc_port is not None:
        from app.protocols.open_inference.rpc.server import RpcServer  # grpcio is an extra

        litestar.state["rpc"] = RpcServer(services, scorings, limit, telemetry)
    # Answers to other web origins have headers of their own, refusals as well.
    entrance: ASGIApp = StraightWay(telemetry, services, routes) if cors is None else telemetry
    if services.traces is not None:
        entrance = TracedRequests(entrance, services.traces)
    return Application(entrance, litestar, services)


def _rate_limit(services: Services) -> RateLimit:
    settings, joint = services.settings, services.joint
    return RateLimit(settings.rate_limit) if joint is None else joint.rate_limit(settings.rate_limit)


def serve_app(settings: Settings) -> Application:
    """The application of a worker, with logs as JSON."""
    logging.config.dictConfig(logging_config(settings.effective_log_level))
    app = create_app(settings, place=Place.joined(os.environ))
    # Imported modules stay for good. Searching them for garbage would stop every request for some 50 ms now and then.
    gc.collect()
    gc.freeze()
    return app


def _direct_routes(
    services: Services, scorings: Scorings, limit: RateLimit | None, cors: CORSConfig | None
) -> dict[str, ASGIApp]:
    """The prediction routes, by path."""
    routes: dict[str, ASGIApp] = own_routes(scorings) | prediction_routes(services, scorings)
    if limit is not None:
        routes = {path: limit.around(route) for path, route in routes.items()}
    if cors is not None:
        routes = {path: CorsHeaders(route, cors) for path, route in routes.items()}
    return routes


def _litestar(services: Services, cors: CORSConfig | None) -> Litestar:
    """The part of the application that Litestar answers."""
    settings = services.settings
    route_handlers: list[Any] = [PredictController, HealthController, OutcomesController, *protocol_handlers()]
    route_handlers += [info, read_predictions]
    if settings.drift:
        route_handlers += [drift, named_drift]
    if settings.enable_prometheus:
        route_handlers.append(metrics)
    if settings.console:
        route_handlers += [page_file, model_facts, model_card, card_picture, live]
    if settings.mlflow_webhook_secret is not None:
        route_handlers.append(hooks_router())
    if settings.api_debug:
        route_handlers.append(assets_router())
    return Litestar(
        route_handlers=route_handlers,
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        state=State({"services": services, "live": Live(services)}),
        lifespan=[_lifespan],
        exception_handlers={Exception: to_answer},
        openapi_config=openapi_config(settings),
        cors_config=cors,
        request_max_body_size=settings.max_json_bytes,  # of the admin's routes; predictions read their own
        logging_config=None,
        debug=False,  # Litestar's debug answers show stack traces
    )


def _start_model(services: Services, suffix: str) -> None:
    """Start the background tasks of a model.

    Args:
        services: Collaborators that answer for the model.
        suffix: End of the tasks' names, which tells models apart.
    """
    tasks, settings = services.tasks, services.settings
    if settings.drift:
        tasks.start(f"drift{suffix}", services.drift.run)
    if settings.model_shadow_alias is not None:
        tasks.start(f"shadow{suffix}", services.shadow.run)


def _start_for_all(services: Services, *, ports: bool) -> None:
    """Start the tasks that one worker runs for all."""
    tasks, settings = services.tasks, services.settings
    for name, one in services.models.items():
        tasks.start("model-keeper" if one is services else f"model-keeper {name}", one.keeper.run)
    if services.outcomes.tracker is not None:
        tasks.start("outcomes", services.outcomes.run)
    if ports and settings.enable_prometheus:
        exporter = MetricsServer(settings.api_host, settings.prometheus_port, services.metrics)
        tasks.start("metrics-server", exporter.run)


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncGenerator[None, None]:
    services: Services = app.state.services
    joint = services.joint
    async with services.tasks as tasks:
        if sys.stderr.isatty():
            tasks.start("start-status", partial(show_start, lambda: services.slot.current is not None))
        for name, one in services.models.items():
            _start_model(one, "" if one is services else f" {name}")
        tasks.start("gpu-poller", services.gpu.run)
        tasks.start("disk-poller", services.system.run)
        tasks.start("parent-watch", watch_parent)
        tasks.start("loop-lag", partial(watch_loop, services.metrics))
        if services.prediction_log.enabled:
            tasks.start("prediction-log", services.prediction_log.run)
        if services.traces is not None:
            tasks.start("traces", services.traces.run)
        lead = partial(_start_for_all, services, ports=app.state["ports"])
        if joint is None:
            lead()
        else:
            await joint.begin(tasks, lead)
        rpc = app.state.get("rpc")
        if rpc is not None:
            tasks.start("grpc-server", rpc.run)
        services.shutdown.listen()
        yield
        if joint is not None:
            joint.end()
        if rpc is not None:
            await rpc.stop()  # while the other tasks run, which the calls in progress need
    if services.traces is not None:
        await asyncio.to_thread(services.traces.close)
    await asyncio.to_thread(services.request_log.close)
    for one in services.models.values():
        one.keeper.close()
    services.executor.close()
    for one in services.models.values():
        one.shadow.close()
        one.drift.close()
        await asyncio.to_thread(one.slot.close)
    await asyncio.to_thread(services.outcomes.close)
    services.log_reader.close()
    await asyncio.to_thread(services.prediction_log.close)
    if joint is not None:
        await joint.leave()
