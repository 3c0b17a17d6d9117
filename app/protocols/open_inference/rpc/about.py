"""The methods that tell of the service and its model."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from app.container import Services
from app.errors import ModelUnavailable
from app.protocols.open_inference.models import described_model, models_in_service
from app.protocols.open_inference.outputs import TensorMetadata, inputs_of, outputs_of
from app.protocols.open_inference.rpc.health import Health
from app.protocols.open_inference.rpc.messages import METHODS, message

Method = Callable[[Any], Awaitable[Any]]
"""Answers a message by a message."""

PLATFORM = "lightgbm"


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
            "RepositoryIndex": self._repository_index,
        }

    async def _server_live(self, _: Any) -> Any:
        return _answer("ServerLive", live=True)

    async def _server_ready(self, _: Any) -> Any:
        return _answer("ServerReady", ready=await self._health.is_ready())

    async def _model_ready(self, asked: Any) -> Any:
        try:
            described_model(asked.name, asked.version, self._services)
        except ModelUnavailable:
            return _answer("ModelReady", ready=False)
        return _answer("ModelReady", ready=await self._health.is_ready())

    async def _server_metadata(self, _: Any) -> Any:
        settings = self._services.settings
        return _answer("ServerMetadata", name="madrone", version=settings.api_version, extensions=EXTENSIONS)

    async def _model_metadata(self, asked: Any) -> Any:
        served = described_model(asked.name, asked.version, self._services)
        return _answer(
            "ModelMetadata",
            name=served.identity.name,
            versions=[model.identity.version for model in models_in_service(self._services.slot)],
            platform=PLATFORM,
            inputs=_tensors(inputs_of(served)),
            outputs=_tensors(outputs_of(served)),
        )

    async def _model_config(self, asked: Any) -> Any:
        served = described_model(asked.name, asked.version, self._services)
        config = message("ModelConfig")(
            name=served.identity.name,
            platform=PLATFORM,
            backend=PLATFORM,
            max_batch_size=self._services.settings.max_bulk_rows,
            input=_configured(inputs_of(served)),
            output=_configured(outputs_of(served)),
        )
        return _answer("ModelConfig", config=config)

    async def _repository_index(self, _: Any) -> Any:
        services = self._services
        models = [
            {"name": served.identity.name, "version": served.identity.version, "state": "READY"}
            for served in models_in_service(services.slot)
        ]
        if not models:
            models = [{"name": services.settings.model_name, "state": "UNAVAILABLE", "reason": "no model is loaded"}]
        return _answer("RepositoryIndex", models=models)


EXTENSIONS = ("model_repository", "model_configuration")


def _answer(method: str, **fields: Any) -> Any:
    return message(METHODS[method].output_type.name)(**fields)


def _tensors(tensors: Sequence[TensorMetadata]) -> list[dict[str, Any]]:
    return [tensor._asdict() for tensor in tensors]


def _configured(tensors: Sequence[TensorMetadata]) -> list[dict[str, Any]]:
    """Tensors as Triton's configuration has them: without the dimension of the batch."""
    return [
        {
            "name": tensor.name,
            "data_type": "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}",
            "dims": tensor.shape[1:],
        }
        for tensor in tensors
    ]
