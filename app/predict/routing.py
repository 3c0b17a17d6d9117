"""Routes answered in front of Litestar's router, which would cost more than a prediction does."""

from collections.abc import Mapping

from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.utils import normalize_path


class DirectRoutes:
    """ASGI application that answers POST requests of some paths itself, and hands all others on.

    A path reaches its route with a slash at its end and without, as it would in Litestar.

    Args:
        app: Answers all other requests.
        routes: Applications by path.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._routes = {spelling: (path, route) for path, route in routes.items() for spelling in (path, path + "/")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            found = self._routes.get(path) or self._routes.get(normalize_path(path))
            if found is not None:
                scope["path_template"], app = found
                await app(scope, receive, send)
                return
        await self._app(scope, receive, send)
