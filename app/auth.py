"""Authentication by key: API_KEY or API_KEY_SECOND on prediction routes and outcomes, ADMIN_API_KEY on admin routes."""

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.config.settings import Settings
from app.errors import BadRequest, Forbidden, Unauthorized
from app.headers import Headers, headers_of

KEY_SCHEME = "api_key"
"""Name of the security scheme in the OpenAPI document."""

Connection = ASGIConnection[Any, Any, Any, Any]


async def require_key(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard of routes that need API_KEY like the prediction routes, if it is set.

    Raises:
        Unauthorized: The key is missing or wrong.
    """
    settings: Settings = connection.app.state.services.settings
    if settings.api_keys:
        check_key(headers_of(connection.scope), settings.api_keys)  # pyright: ignore[reportArgumentType]


async def require_admin_key(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard of the admin routes: accept a request with ADMIN_API_KEY.

    It is a coroutine because Litestar runs a plain function in a thread.

    Raises:
        Forbidden: ADMIN_API_KEY is not set, so admin routes are closed.
        Unauthorized: The key is missing or wrong.
    """
    settings: Settings = connection.app.state.services.settings
    if settings.admin_api_key is None:
        raise Forbidden("Admin routes are closed. Set ADMIN_API_KEY and send it as X-API-Key to open them.")
    check_key(headers_of(connection.scope), (settings.admin_api_key,))  # pyright: ignore[reportArgumentType]


def has_key(connection: Connection) -> bool:
    """Whether a request to a public route carries a key like API_KEY, or that is not set."""
    settings: Settings = connection.app.state.services.settings
    return not settings.api_keys or _has(connection, settings.api_keys)


def has_admin_key(connection: Connection) -> bool:
    """Whether a request to a public route carries ADMIN_API_KEY."""
    settings: Settings = connection.app.state.services.settings
    return settings.admin_api_key is not None and _has(connection, (settings.admin_api_key,))


def key_id_of(keys: tuple[str, ...]) -> Callable[[Headers], str | None]:
    """What gives the id of a request's key by its headers, for the prediction log; None where none is needed.

    An id tells a key from others, and gives it to nobody.

    Args:
        keys: The right keys.
    """
    ids = {key.encode(): sha256(key.encode()).hexdigest()[:8] for key in keys}
    return lambda headers: next((ids[key] for key in given_keys(headers) if key in ids), None) if ids else None


def given_keys(headers: Mapping[bytes, bytes]) -> set[bytes]:
    """The key that a request has, right or wrong; two if it has different ones.

    Args:
        headers: Headers of the request, names in lower case.
    """
    keys = {headers[b"x-api-key"]} if b"x-api-key" in headers else set[bytes]()
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return keys | {token.strip()} if scheme.lower() == b"bearer" else keys


def check_key(headers: Mapping[bytes, bytes], expected: tuple[str, ...]) -> None:
    """Accept a request with a right key.

    Args:
        headers: Headers of the request, names in lower case.
        expected: The right keys.

    Raises:
        BadRequest: The request has two different keys.
        Unauthorized: The key is missing or wrong.
    """
    keys = given_keys(headers)
    if not keys:
        raise Unauthorized("This route requires a key, as X-API-Key or as Authorization: Bearer.")
    if len(keys) > 1:
        raise BadRequest("X-API-Key and Authorization: Bearer hold different keys.")
    given = keys.pop()
    if not sum(hmac.compare_digest(given, key.encode()) for key in expected):  # all of them: time tells nothing
        raise Unauthorized("The key is not valid.")


def _has(connection: Connection, keys: tuple[str, ...]) -> bool:
    try:
        check_key(headers_of(connection.scope), keys)  # pyright: ignore[reportArgumentType]
    except Unauthorized:
        return False
    return True
