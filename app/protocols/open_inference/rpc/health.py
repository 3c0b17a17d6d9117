"""Health of the service as `grpc.health.v1` tells it (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

The service is healthy when `/health/ready` is 200, under its own name and under the empty one.
"""

import asyncio
from typing import Any

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from app.container import Services
from app.errors import MalformedBody, NotFound, Overloaded
from app.protocols.open_inference.rpc.messages import SERVICE
from app.routes.readiness import readiness

HEALTH = "grpc.health.v1.Health"
NAMES = ("", SERVICE)
INTERVAL_S = 0.5
"""Pause between two looks, after which those that watch are told of a change."""

MOST_WATCHERS = 100

STATUS = health_pb2.HealthCheckResponse.ServingStatus


class Health:
    """Answers the health checks.

    Args:
        services: Collaborators of the application.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ready = False
        self._changed = asyncio.Event()
        self._watchers = 0

    async def is_ready(self) -> bool:
        """Whether the model in use answers a prediction now."""
        ready = (await readiness(self._services)).status == "ready"
        if ready != self._ready:
            self._ready = ready
            self._changed.set()
            self._changed = asyncio.Event()
        return ready

    async def check(self, message: bytes) -> bytes:
        """Answer Check.

        Raises:
            NotFound: There is no service of this name.
        """
        if _service(message) not in NAMES:
            raise NotFound("There is no service of this name.")
        return self._answer(STATUS.SERVING if await self.is_ready() else STATUS.NOT_SERVING)

    async def watch(self, message: bytes, context: Any, ended: asyncio.Event) -> None:
        """Answer Watch: the status now, and each time that it has changed, until the server ends.

        Raises:
            Overloaded: Too many clients watch.
        """
        if self._watchers >= MOST_WATCHERS:
            raise Overloaded("As many clients watch as can.")
        known = _service(message) in NAMES
        self._watchers += 1
        try:
            await self.is_ready()
            while not ended.is_set():
                changed = self._changed
                status = STATUS.SERVING if self._ready else STATUS.NOT_SERVING
                await context.write(self._answer(status if known else STATUS.SERVICE_UNKNOWN))
                await first(changed if known else ended, ended)
        finally:
            self._watchers -= 1

    def _answer(self, status: Any) -> bytes:
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()


async def first(*events: asyncio.Event) -> None:
    """Wait for the first of some events."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _service(message: bytes) -> str:
    try:
        return health_pb2.HealthCheckRequest.FromString(message).service
    except DecodeError:
        raise MalformedBody("The message is not a HealthCheckRequest.") from None
