"""Routes answered in front of Litestar's router, which would cost more than a prediction does."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from litestar.utils import normalize_path

PARAMETER = re.compile(r"\{(\w+)\}")
VERB, PARAMETER_AND_VERB = ":", "}:"
"""What a path has that names a verb, and its template."""


class Found(NamedTuple):
    """Route of a path.

    Attributes:
        template: Path of the route, with its parameters in braces.
        app: Answers the requests.
        parameters: Values of the parameters.
    """

    template: str
    app: ASGIApp
    parameters: dict[str, str]


class RouteTable:
    """Routes by path, with a slash at its end and without, as Litestar has them.

    Args:
        routes: Applications by path. A part of a path in braces is a parameter, which takes any text without a slash.
    """

    def __init__(self, routes: Mapping[str, ASGIApp]) -> None:
        self._exact = {
            spelling: Found(path, app, {})
            for path, app in routes.items()
            if "{" not in path
            for spelling in (path, path + "/")
        }
        self._matched = lru_cache(maxsize=64)(self._match)  # a request asks twice
        self._patterns = [(_pattern(path), path, app) for path, app in routes.items() if "{" in path]

    def find(self, path: str) -> Found | None:
        """Find the route of a path; None where there is none."""
        return self._exact.get(path) or self._matched(path) or self._exact.get(normalize_path(path))

    def _match(self, path: str) -> Found | None:
        for pattern, template, app in self._patterns:
            if match := pattern.fullmatch(path):
                return Found(template, app, match.groupdict())
        return None


class DirectRoutes:
    """ASGI application that answers POST requests of some paths itself, and hands all others on.

    Of a path with text behind a parameter, such as `{name}:predict`, it answers all methods.

    Args:
        app: Answers all other requests.
        routes: Applications by path.
    """

    def __init__(self, app: ASGIApp, routes: RouteTable) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["path_template"], app, scope["path_params"] = found
        await app(scope, receive, send)

    def _find(self, scope: HTTPScope) -> Found | None:
        is_post = scope["method"] == "POST"
        if not is_post and VERB not in scope["path"]:
            return None
        found = self._routes.find(scope["path"])
        if is_post or found is None:
            return found
        # Litestar knows no path with text behind a parameter. It answers what browsers ask before such a request.
        asks_before = any(name == b"access-control-request-method" for name, _ in scope["headers"])
        return found if PARAMETER_AND_VERB in found.template and not asks_before else None


def _pattern(path: str) -> re.Pattern[str]:
    parts = PARAMETER.split(path + "/")
    texts = [f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)]
    return re.compile("".join(texts) + "?")
