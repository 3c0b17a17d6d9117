"""The way of a request past Litestar's router, for the routes on which it would cost more than a prediction."""

from collections.abc import Mapping

from litestar.types import ASGIApp, Receive, Scope, Send


class DirectRoutes:
    """ASGI application in front of the application.

    Args:
        app: Answers everything else.
        routes: Applications by path, for POST.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            app = self._routes.get(scope["path"])
            if app is not None:
                scope["path_template"] = scope["path"]
                await app(scope, receive, send)
                return
        await self._app(scope, receive, send)
