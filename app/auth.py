"""Guards: the keys that prediction and admin routes ask for.

They are coroutines because Litestar hands a plain function to a thread and back, at each request.
"""

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.errors import Forbidden, Unauthorized
from app.settings import Settings

KEY_SCHEME = "api_key"
"""Name of the key in the OpenAPI document."""

Connection = ASGIConnection[Any, Any, Any, Any]


async def require_api_key(connection: Connection, _: BaseRouteHandler) -> None:
    """Let a request pass that brings API_KEY, or any while none is set.

    Raises:
        Unauthorized: The key is missing or wrong.
    """
    settings: Settings = connection.app.state.services.settings
    if settings.api_key is not None:
        _compare(connection, settings.api_key)


async def require_admin_key(connection: Connection, _: BaseRouteHandler) -> None:
    """Let a request pass that brings ADMIN_API_KEY.

    Raises:
        Forbidden: None is set, so that admin routes are closed.
        Unauthorized: The key is missing or wrong.
    """
    settings: Settings = connection.app.state.services.settings
    if settings.admin_api_key is None:
        raise Forbidden("Admin routes are closed. Set ADMIN_API_KEY and send it as X-API-Key to open them.")
    _compare(connection, settings.admin_api_key)


def client_address(connection: Connection) -> str:
    """Whose requests a rate limit counts together: the peer's address, since headers can be invented."""
    return connection.client.host if connection.client else "unknown"


def _compare(connection: Connection, expected: str) -> None:
    given = connection.headers.get("x-api-key")
    if given is None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else None
    if given is None:
        raise Unauthorized("A key is needed, as X-API-Key or as Authorization: Bearer.")
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Unauthorized("The key is not valid.")
