"""`POST /v1/models/{model_name}:predict`: rows as KServe's servers for LightGBM and scikit-learn take them.

The reader is that of MLflow's `instances` and `inputs`. KServe takes nested lists in the order of the features as well,
and objects whose values are lists or objects of values, which are rows of a frame.
"""

from collections.abc import Mapping
from typing import Any

from litestar.exceptions import MethodNotAllowedException
from litestar.types import ASGIApp, Receive, Scope, Send

from app.codecs.json import table as table_json
from app.predict.exchange import Exchange
from app.predict.scoring import Scoring, Scorings
from app.problems import send_error
from app.protocols.mlflow.handlers import Invocations

PATH = "/v1/models/{model_name}:predict"

ALLOWED = "OPTIONS, POST"


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


def kserve_routes(scorings: Scorings, models: Mapping[str, Invocations]) -> dict[str, ASGIApp]:
    """The route, an ASGI application by path.

    Args:
        scorings: Policies of all models.
        models: What answers requests in MLflow's formats to each model.
    """
    handles = {name: KServe(scoring, models[name]).predict for name, scoring in scorings.models.items()}
    return {PATH: OnlyPost(scorings.first.endpoint(PATH, scorings.by_name("model_name", handles)))}


class KServe:
    """Answers prediction requests of KServe's protocol to a model.

    Args:
        scoring: Policy of the model.
        invocations: Answers requests in MLflow's formats.
    """

    def __init__(self, scoring: Scoring, invocations: Invocations) -> None:
        self._scoring = scoring
        self._invocations = invocations

    async def predict(self, exchange: Exchange) -> None:
        """Answer a request; like KServe, whatever its Content-Type: the body is JSON."""
        served = self._scoring.choose(exchange)
        await self._invocations.answer(exchange, served, table_json.MEDIA_TYPE, arrays=True)
