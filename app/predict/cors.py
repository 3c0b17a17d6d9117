"""Cross-origin headers (CORS) of the routes that are answered in front of Litestar."""

from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp, Receive, Scope, Send

from app.headers import adding_headers, headers_of


class CorsHeaders:
    """ASGI application whose answers may be read by the web pages of some other origins.

    Litestar adds the same headers to the routes that it answers. It also answers all preflight requests, which are
    OPTIONS requests and never reach a direct route.

    Args:
        app: Answers the requests.
        config: Litestar's own; names the origins.
    """

    def __init__(self, app: ASGIApp, config: CORSConfig) -> None:
        self._app = app
        self._config = config
        allowed = {
            **config.simple_headers,
            "Access-Control-Allow-Headers": ", ".join(sorted(config.allow_headers)),
            "Access-Control-Allow-Methods": ", ".join(sorted(config.allow_methods)),
        }
        self._headers = [(name.lower().encode(), value.encode()) for name, value in allowed.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = headers_of(scope)  # pyright: ignore[reportArgumentType]
        origin = headers.get(b"origin")
        if not origin:
            await self._app(scope, receive, send)
            return
        given = self._headers_for(origin, has_cookie=b"cookie" in headers)
        await self._app(scope, receive, adding_headers(send, given))

    def _headers_for(self, origin: bytes, *, has_cookie: bool) -> list[tuple[bytes, bytes]]:
        everybody = self._config.is_allow_all_origins
        if everybody and has_cookie:  # a browser that sends a cookie does not accept "*"
            others = [header for header in self._headers if header[0] != b"access-control-allow-origin"]
        elif not everybody and self._config.is_origin_allowed(origin.decode("latin-1")):
            others = self._headers
        else:
            return self._headers
        return [*others, (b"access-control-allow-origin", origin), (b"vary", b"Origin")]
