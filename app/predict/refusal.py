"""Refusal of a request before anything is done for it, while the service is overloaded.

Several times as many requests as can be answered leave the event loop little time for each. So those that must be
refused are refused here, in front of all other applications. The answer has the same bytes as further inside, where
requests are refused that cannot be told by their head.
"""

from app.container import Services
from app.errors import REQUEST_ID, Overloaded
from app.headers import Headers
from app.predict.body import SMALL_BODY_BYTES, declared_bytes
from app.predict.exchange import closing
from app.predict.routing import RouteTable
from app.problems import send_error
from app.telemetry.asgi_types import Scope, Send
from app.telemetry.middleware import RequestTelemetry, identify

SINGLE_ROUTES = ("/predict", "/predict/{model}")
"""Templates of the routes for one row, in front of which no body is large."""


class EarlyRefusal:
    """Refuses prediction requests by their head.

    Args:
        telemetry: Records the requests.
        services: Collaborators of the application.
        routes: The prediction routes.
    """

    def __init__(self, telemetry: RequestTelemetry, services: Services, routes: RouteTable) -> None:
        self._telemetry = telemetry
        self._find = routes.find
        self._gate = services.gate
        self._admission = services.admission
        self._slot = services.slot
        self._slots = {name: one.slot for name, one in services.models.items()}

    def check(self, scope: Scope) -> None:
        """Let a request pass, unless it must be refused.

        Raises:
            Overloaded: There are too many requests in progress, or a body like this would wait too long for a thread.
        """
        if scope["type"] != "http" or scope["method"] != "POST" or (found := self._find(scope["path"])) is None:
            return
        self._gate.check()
        name = found.parameters.get("model")
        slot = self._slot if name is None else self._slots.get(name)
        served = None if slot is None else slot.current
        if served is not None and found.template not in SINGLE_ROUTES:
            declared = declared_bytes(dict(scope["headers"])) or 0
            if declared > SMALL_BODY_BYTES:
                self._admission.enter(len(served.feature_names)).check_arrival(declared)

    async def refuse(self, scope: Scope, send: Send, error: Overloaded, seconds: float) -> None:
        """Answer a request that `check` refused, and record it.

        Args:
            scope: The request.
            send: ASGI `send` of the connection.
            error: The reason.
            seconds: Time since the request began.
        """
        headers: Headers = dict(reversed(scope["headers"]))  # of a repeated header the first counts
        request_id = identify(headers.get(b"x-request-id"))
        scope[REQUEST_ID] = request_id  # pyright: ignore[reportGeneralTypeIssues]
        more = *closing(headers), (b"x-request-id", request_id.encode())
        await send_error(scope, send, error, more)  # pyright: ignore[reportArgumentType]
        client, found = scope["client"], self._find(scope["path"])
        self._telemetry.record(
            "POST",
            found.template if found else scope["path"],
            error.status,
            seconds,
            client and client[0],
            request_id,
            error.kind,
            error.refusal,
        )
