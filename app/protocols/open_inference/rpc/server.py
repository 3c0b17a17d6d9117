"""The gRPC server on its own port."""

import asyncio
import logging

from grpc import ServerCredentials, aio, ssl_server_credentials

from app.config.settings import Settings
from app.container import Services
from app.predict.rate_limit import RateLimit
from app.predict.scoring import Scorings
from app.protocols.open_inference.rpc.call import Arrivals
from app.protocols.open_inference.rpc.health import INTERVAL_S
from app.protocols.open_inference.rpc.service import Service
from app.serving.admission import COPIES, MEMORY_SHARE
from app.serving.tls import read_credentials
from app.telemetry.middleware import RequestTelemetry
from app.telemetry.system import memory_bytes

OTHER_CALLS = 1000
"""Most calls beside MAX_REQUESTS_IN_PROGRESS, such as health checks. grpcio itself refuses further ones."""

STREAMS = 1000
"""Most calls of one connection at a time; the client keeps further ones back."""

LEAST_ARRIVING = 4

LARGEST_MESSAGE = 2**31 - 1
"""Bytes that gRPC can be told as a limit."""

KEPT_S = 1
"""Part of SHUTDOWN_GRACE for what is closed after the last answer."""

log = logging.getLogger(__name__)


class RpcServer:
    """Serves the methods until it is stopped.

    Args:
        services: Collaborators of the application.
        scorings: Policies of all models.
        limit: Limit on the requests of a client; None where there is none.
        telemetry: Records the calls.
    """

    def __init__(
        self, services: Services, scorings: Scorings, limit: RateLimit | None, telemetry: RequestTelemetry
    ) -> None:
        self._services = services
        self._scorings = scorings
        self._limit = limit
        self._telemetry = telemetry
        self._ending = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`, or until the service is about to end and SHUTDOWN_DELAY is over.

        Raises:
            OSError: The port is taken or not permitted.
        """
        settings = self._services.settings
        self._ended.clear()
        service = Service(
            self._services, self._scorings, self._limit, self._telemetry, Arrivals(most_arriving(settings))
        )
        most = settings.max_requests_in_progress + OTHER_CALLS
        server = aio.server(options=options(settings), maximum_concurrent_rpcs=most)
        server.add_generic_rpc_handlers((service,))
        try:
            self._bind(server, settings)
            await server.start()
            await self._until_end(service)
        finally:
            service.ended.set()
            await server.stop(max(0, settings.shutdown_grace - KEPT_S))
            self._ended.set()

    async def stop(self) -> None:
        """Answer the calls in progress, and no more, as long as SHUTDOWN_GRACE allows."""
        self._ending.set()
        await self._ended.wait()

    def _bind(self, server: aio.Server, settings: Settings) -> None:
        host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
        try:
            credentials = _credentials(settings)
            place = f"{host}:{settings.grpc_port}"
            if credentials is None:
                bound = server.add_insecure_port(place)
            else:
                bound = server.add_secure_port(place, credentials)
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise OSError(f"cannot listen on API_HOST {settings.api_host}, GRPC_PORT {settings.grpc_port}")

    async def _until_end(self, service: Service) -> None:
        """Look at the health, for those that watch it, until the server is to end."""
        shutdown, loop = self._services.shutdown, asyncio.get_running_loop()
        ends = None
        while not self._ending.is_set() and (ends is None or loop.time() < ends):
            await service.health.is_ready()
            if shutdown.announced and ends is None:
                ends = loop.time() + self._services.settings.shutdown_delay
            pause = INTERVAL_S if ends is None else min(INTERVAL_S, max(0.0, ends - loop.time()))
            try:
                async with asyncio.timeout(pause):
                    await self._ending.wait()
            except TimeoutError:
                continue


def _credentials(settings: Settings) -> ServerCredentials | None:
    """Those of the port of HTTP; None without TLS."""
    ours = read_credentials(settings)
    if ours is None:
        return None
    pairs, client_ca = [(ours.key, ours.certificates)], ours.client_ca
    return ssl_server_credentials(pairs, client_ca, require_client_auth=client_ca is not None)


def options(settings: Settings) -> list[tuple[str, int]]:
    """Options of the server, as gRPC names its channel arguments.

    Connections without a call end as idle ones of HTTP do, and those whose client is out of reach after a minute.
    """
    idle = 1000 * settings.idle_timeout
    return [
        # The workers of a service share the port; a second service on it is an error, and gets no half of the calls.
        ("grpc.so_reuseport", int(settings.api_workers > 1)),
        ("grpc.max_receive_message_length", min(settings.max_body_bytes, LARGEST_MESSAGE)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_connection_idle_ms", idle),
        ("grpc.server_handshake_timeout_ms", idle),
        ("grpc.keepalive_time_ms", 40_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


def most_arriving(settings: Settings) -> int:
    """Most messages that take long to arrive, so that the largest ones fit into the memory for rows in flight."""
    memory = memory_bytes() / settings.api_workers
    return max(LEAST_ARRIVING, int(MEMORY_SHARE * memory / COPIES / settings.max_body_bytes))
