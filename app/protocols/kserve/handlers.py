"""`POST /v1/models/{model_name}:predict`: rows as KServe's servers for LightGBM and scikit-learn take them.

The reader is that of MLflow's `instances` and `inputs`. KServe takes nested lists in the order of the features as well,
and objects whose values are lists or objects of values, which are rows of a frame.
"""

from typing import Any

from litestar.exceptions import MethodNotAllowedException
from litestar.types import ASGIApp, Receive, Scope, Send

from app.codecs.json import table as table_json
from app.errors import NotFound
from app.predict.exchange import Exchange
from app.predict.scoring import Scoring
from app.problems import send_error
from app.protocols.mlflow.handlers import Invocations

PATH = "/v1/models/{model_name}:predict"

ALLOWED = "OPTIONS, POST"

UNKNOWN = "No model of this name is served here."


class OnlyPost:
    """ASGI application that answers other methods than POST as Litestar does for its routes.

    Args:
        app: Answers the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] == "POST":
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            start: Any = {"type": "http.response.start", "status": 204, "headers": [(b"allow", ALLOWED.encode())]}
            await send(start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await send_error(scope, send, MethodNotAllowedException(headers={"allow": ALLOWED}))


class KServe:
    """Answers prediction requests of KServe's protocol.

    Args:
        scoring: Policy of all prediction routes.
        invocations: Answers requests in MLflow's formats.

    Attributes:
        routes: An ASGI application by path, for POST.
    """

    def __init__(self, scoring: Scoring, invocations: Invocations) -> None:
        self._scoring = scoring
        self._invocations = invocations
        self._name = scoring.settings.model_name
        self.routes: dict[str, ASGIApp] = {PATH: OnlyPost(scoring.endpoint(PATH, self._predict))}

    async def _predict(self, exchange: Exchange) -> None:
        """Answer a request; like KServe, whatever its Content-Type: the body is JSON."""
        self._scoring.check_key(exchange.headers)
        if exchange.parameters["model_name"] != self._name:
            raise NotFound(UNKNOWN)
        served = self._scoring.choose(exchange)
        await self._invocations.answer(exchange, served, table_json.MEDIA_TYPE, arrays=True)
