"""The methods that tell of the service and its model, as the same routes of HTTP do."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict

from app.container import Services
from app.protocols.open_inference.descriptions import model_config, model_metadata, repository_index, server_metadata
from app.protocols.open_inference.models import described_model, models_in_service
from app.protocols.open_inference.rpc.health import Health
from app.protocols.open_inference.rpc.messages import METHODS, message
from app.protocols.open_inference.statistics import statistics_of
from app.routes.readiness import model_readiness

Method = Callable[[Any], Awaitable[Any]]
"""Answers a message by a message."""


class About:
    """Answers the methods.

    Args:
        services: Collaborators of the application.
        health: Readiness of the service.

    Attributes:
        methods: Each method by name.
    """

    def __init__(self, services: Services, health: Health) -> None:
        self._services = services
        self._health = health
        self.methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
        }

    async def _server_live(self, _: Any) -> Any:
        return _answer("ServerLive", {"live": True})

    async def _server_ready(self, _: Any) -> Any:
        return _answer("ServerReady", {"ready": await self._health.is_ready()})

    async def _model_ready(self, asked: Any) -> Any:
        services = self._services.of(asked.name)
        loaded = services.slot.current is not None
        served = described_model(asked.name, asked.version, services) if loaded else None
        return _answer("ModelReady", {"ready": (await model_readiness(services, served)).status == "ready"})

    async def _server_metadata(self, _: Any) -> Any:
        return _answer("ServerMetadata", server_metadata(self._services.settings))

    async def _model_metadata(self, asked: Any) -> Any:
        served = described_model(asked.name, asked.version, self._services)
        return _answer("ModelMetadata", model_metadata(served, self._services.of(asked.name)))

    async def _model_config(self, asked: Any) -> Any:
        served = described_model(asked.name, asked.version, self._services)
        return _answer("ModelConfig", {"config": model_config(served, self._services.of(asked.name))})

    async def _model_statistics(self, asked: Any) -> Any:
        services = self._services
        if asked.name:
            served = described_model(asked.name, asked.version, services)
            models = (served,) if asked.version else models_in_service(services.of(asked.name).slot)
        else:  # those of all models are asked for
            models = [served for one in services.models.values() for served in models_in_service(one.slot)]
        return _answer("ModelStatistics", statistics_of(models, services.metrics))

    async def _repository_index(self, asked: Any) -> Any:
        return _answer("RepositoryIndex", {"models": repository_index(self._services, ready=asked.ready)})


def _answer(method: str, content: Any) -> Any:
    """Message of an answer, of what the route of HTTP answers. That may have fields that the message has not."""
    made = message(METHODS[method].output_type.name)()
    return ParseDict(msgspec.to_builtins(content), made, ignore_unknown_fields=True)
