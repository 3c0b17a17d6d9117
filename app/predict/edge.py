"""Checks and rewrites of every request before it reaches a route."""

from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from app.errors import BadRequest
from app.headers import check_host
from app.problems import allow_head, send_error


class Edge:
    """ASGI application that refuses contradictory headers, and answers HEAD like GET without the body.

    Args:
        app: Application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check_host(scope)  # pyright: ignore[reportArgumentType]
        except BadRequest as error:
            await send_error(scope, send, error)
            return
        if scope["method"] == "HEAD":
            await self._answer_head(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await self._app(scope, receive, _allowing_head(send))
        else:
            await self._app(scope, receive, send)

    async def _answer_head(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        asked = started = False

        async def receive_once() -> HTTPReceiveMessage:
            # Nobody waits for a body, so that a stream, which ends when its reader goes, ends at once.
            nonlocal asked
            if asked:
                return {"type": "http.disconnect"}
            message: HTTPReceiveMessage = await receive()  # pyright: ignore[reportAssignmentType]
            asked = not message.get("more_body", False)
            return message

        async def send_start(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                await send(message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive_once, send_start)
        finally:
            scope["method"] = "HEAD"  # for metrics and log
        if started:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _allowing_head(send: Send) -> Send:
    async def send_allowing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, allow_head(value.decode()).encode() if name.lower() == b"allow" else value)
                for name, value in message["headers"]
            ]
        await send(message)

    return send_allowing
