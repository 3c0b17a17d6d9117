"""The service as a deployment of Ray Serve."""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

import msgspec
from ray import serve

from app.commands.common import keep_kernels
from app.config.contradictions import environ_of_model
from app.config.settings import Settings

LOOK_S = 0.1
"""Pause between two looks whether the first model is there."""


class Madrone:
    """What a replica does: it runs one service, with all of its routes, on the replica's event loop.

    Args:
        settings: The settings as MessagePack, so that whoever prints the arguments of a deployment sees no key.
    """

    def __init__(self, settings: bytes) -> None:
        self._settings = msgspec.msgpack.decode(settings, type=Settings, dec_hook=lambda kind, value: kind(value))
        self._application: Any = None

    def __serve_build_asgi_app__(self) -> Any:
        """Build the application, whose lifespan Ray Serve runs."""
        keep_kernels(self._settings)  # before numba is imported

        from app.main import create_app

        _log_to_stderr(self._settings.effective_log_level)
        self._application = create_app(self._settings, ports=False)
        return _Mounted(self._application)

    async def check_health(self) -> None:
        """Wait for the end of the first load. Later, a replica that has a model is well, whatever it reports of itself.

        So Ray Serve sends no request to a replica without a model, and replaces none that answers by one that cannot.

        Raises:
            RuntimeError: No model could be loaded.
        """
        slot, keeper = self._application.services.slot, self._application.services.keeper
        while slot.current is None and keeper.last_refresh is None:  # noqa: ASYNC110 - neither tells of a change
            await asyncio.sleep(LOOK_S)
        if slot.current is None:
            raise RuntimeError(f"No model is served: {keeper.last_refresh.reason}.")


class _Mounted:
    """An application below a route prefix of Ray Serve, whose proxy adds the header X-Request-ID itself."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_without_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message["headers"] if header[0].lower() != b"x-request-id"]
                message = message | {"headers": headers}
            await send(message)

        if prefix := scope.get("root_path"):
            scope = scope | {"root_path": "", "path": scope["path"].removeprefix(prefix) or "/"}
        await self._app(scope, receive, send_without_id)


def deployment(
    model: str | None = None, settings: Mapping[str, str] | None = None, **options: Any
) -> serve.Application:
    """The service as an application of Ray Serve: `serve.run(madrone.ray.deployment("models:/house@champion"))`.

    Each replica is a service of its own: it loads the model by its address, and follows it in the registry.

    Args:
        model: File, directory or address of the model, which each node must reach; None for the model that the settings
            choose.
        settings: Settings by the names of their variables. They come before those of this process's environment.
        options: Options of `ray.serve.deployment`, such as `num_replicas`.

    Raises:
        AddressError: The model's address is none.
        SettingsError: A setting is not valid.
        ValueError: The prediction log is to be durable.
    """
    environ = {**os.environ, **(settings or {})}
    found = Settings.from_environ(environ if model is None else environ_of_model(model, environ))
    if found.prediction_log == "durable":
        raise ValueError("PREDICTION_LOG: must not be durable, since the replicas of a node have one DATA_DIR")
    place = found.place
    if place is not None and place.kind == "file":  # a replica has another working directory
        found = msgspec.structs.replace(found, model_path=str(place.path))
    found = msgspec.structs.replace(found, data_dir=found.data_dir.absolute())
    # Requests beyond this many wait in Ray Serve; the service refuses at once what it cannot answer in time.
    options = {"name": "Madrone", "max_ongoing_requests": found.max_requests_in_progress} | options
    replica: Any = serve.deployment(**options)(serve.ingress()(Madrone))
    return replica.bind(msgspec.msgpack.encode(found, enc_hook=str))


def _log_to_stderr(level: str) -> None:
    """Write the service's log lines to standard error, which Ray keeps. Ray's own logging stays as it is."""
    from app.telemetry.logging import JsonFormatter, StderrHandler

    handler = StderrHandler()
    handler.setFormatter(JsonFormatter())
    for name in ("app", "kernels"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
