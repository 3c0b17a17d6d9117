"""The keys that prediction and admin routes ask for."""

import hmac
from collections.abc import Mapping
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.errors import BadRequest, Forbidden, Unauthorized
from app.predict.headers import headers_of
from app.settings import Settings

KEY_SCHEME = "api_key"
"""Name of the key in the OpenAPI document."""

Connection = ASGIConnection[Any, Any, Any, Any]


async def require_admin_key(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: let a request pass that brings ADMIN_API_KEY.

    A coroutine because Litestar hands a plain function to a thread and back.

    Raises:
        Forbidden: None is set, so that admin routes are closed.
        Unauthorized: The key is missing or wrong.
    """
    settings: Settings = connection.app.state.services.settings
    if settings.admin_api_key is None:
        raise Forbidden("Admin routes are closed. Set ADMIN_API_KEY and send it as X-API-Key to open them.")
    check_key(headers_of(connection.scope), settings.admin_api_key)  # pyright: ignore[reportArgumentType]


def has_admin_key(connection: Connection) -> bool:
    """Whether a request to a route that is open to all brings ADMIN_API_KEY."""
    settings: Settings = connection.app.state.services.settings
    if settings.admin_api_key is None:
        return False
    try:
        check_key(headers_of(connection.scope), settings.admin_api_key)  # pyright: ignore[reportArgumentType]
    except Unauthorized:
        return False
    return True


def check_key(headers: Mapping[bytes, bytes], expected: str) -> None:
    """Let a request pass that brings the key.

    Args:
        headers: Of the request, names in lower case.
        expected: The key.

    Raises:
        BadRequest: There are two keys, and they differ.
        Unauthorized: The key is missing or wrong.
    """
    given = headers.get(b"x-api-key")
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        token = token.strip()
        if given is not None and given != token:
            raise BadRequest("X-API-Key and Authorization: Bearer hold two keys, and they differ.")
        given = token
    if given is None:
        raise Unauthorized("A key is needed, as X-API-Key or as Authorization: Bearer.")
    if not hmac.compare_digest(given, expected.encode()):
        raise Unauthorized("The key is not valid.")
