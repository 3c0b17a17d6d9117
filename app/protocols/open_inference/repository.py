"""Triton's extension for the repository of models: its index, and the load and unload of a model by the operator.

The names are those of MODEL_NAMES. An unload is not written down: a start of the service serves all of them.
"""

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from litestar import Controller, Request, Response, post
from litestar.params import FromPath

from app.auth import KEY_SCHEME, require_admin_key
from app.codecs.json.duplicates import has_repeated
from app.codecs.rules import BODY, REPEATED
from app.container import InjectedServices
from app.errors import Conflict, FieldError, InvalidInput, MalformedBody
from app.protocols.open_inference.controller import error_responses
from app.protocols.open_inference.descriptions import IndexEntry, repository_index

T = TypeVar("T", bound=msgspec.Struct)


class IndexOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a request for the index: whether to list only versions that answer requests."""

    ready: bool = False


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a load or unload. No model here depends on another, so that the one there is says nothing."""

    unload_dependents: bool = False


class LoadOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a request to load or unload a model."""

    parameters: Parameters = Parameters()


class Done(msgspec.Struct, frozen=True):
    """Answer to an order that was carried out, or that continues after REQUEST_TIMEOUT."""


ORDER: dict[str, Any] = {
    "guards": [require_admin_key],
    "security": [{KEY_SCHEME: []}],
    "status_code": 200,
    "responses": error_responses(400, 401, 403, 404, 409, 413),
}


class RepositoryController(Controller):
    """Routes of the repository. Load and unload require ADMIN_API_KEY."""

    path = "/v2/repository"
    tags = ("open inference",)

    @post("/index", status_code=200, responses=error_responses(400, 413), summary="List the models")
    async def index(self, services: InjectedServices, request: Request[Any, Any, Any]) -> list[IndexEntry]:
        """The versions that answer requests, and the models of which none does, without these by `{"ready": true}`."""
        return repository_index(services, ready=_read(await request.body(), IndexOrder, "ready").ready)

    @post("/models/{model:str}/load", **ORDER, summary="Load a model")
    async def load(
        self, services: InjectedServices, request: Request[Any, Any, Any], model: FromPath[str]
    ) -> Response[Done]:
        """Look into the registry now, and serve the model again if it was unloaded.

        The registry says which version, as ever. 409 if none can be served. A load that takes longer than
        REQUEST_TIMEOUT is answered with 200 and continues; /health/model then reports its outcome.
        """
        keeper = services.of(model).keeper
        _read(await request.body(), LoadOrder, "parameters")
        try:
            async with asyncio.timeout(services.settings.request_timeout):
                refresh = await keeper.load()
        except TimeoutError:
            return Response(Done(), status_code=200)
        if services.of(model).slot.current is None:
            raise Conflict(f"The model cannot be loaded: {refresh.reason}.")
        return Response(Done(), status_code=200)

    @post("/models/{model:str}/unload", **ORDER, summary="Unload a model")
    async def unload(
        self, services: InjectedServices, request: Request[Any, Any, Any], model: FromPath[str]
    ) -> Response[Done]:
        """Answer requests to the model with 503 from now on, until it is loaded or the service starts again."""
        keeper = services.of(model).keeper
        _read(await request.body(), LoadOrder, "parameters")
        with suppress(TimeoutError):
            async with asyncio.timeout(services.settings.request_timeout):
                await keeper.unload()
        return Response(Done(), status_code=200)


def _read(body: bytes, kind: type[T], field: str) -> T:
    """The body of a request, which may be empty; `field` is what it may have."""
    if not body.strip():
        return kind()
    try:
        order = msgspec.json.decode(body, type=kind)
        if has_repeated(body):
            raise InvalidInput("The body is not valid.", (FieldError(field, REPEATED),))
        return order
    except msgspec.ValidationError:
        allowed = {"ready": "true or false", "parameters": 'an object with "unload_dependents" or nothing'}[field]
        error = FieldError(BODY, f'may hold "{field}" as {allowed}, and nothing else')
        raise InvalidInput("The body is not valid.", (error,)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedBody("The body is not valid JSON.") from None
