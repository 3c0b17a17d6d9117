"""Handler of inference over HTTP, in front of Litestar's router."""

from functools import partial

from litestar.types import ASGIApp

from app.container import Services
from app.predict.body import SMALL_BODY_BYTES
from app.predict.exchange import Exchange
from app.predict.many_rows import NO_TURN, Reader
from app.predict.scoring import Scored, Scorings
from app.protocols.open_inference.models import model_of
from app.protocols.open_inference.request import Asked, head_bytes, read_request
from app.protocols.open_inference.response import infer_answer

INFER = "/v2/models/{model}/infer"
INFER_VERSION = "/v2/models/{model}/versions/{version}/infer"


class Inference:
    """Answers requests for inference.

    Args:
        services: Collaborators of the application.
        scorings: Policies of all models.

    Attributes:
        routes: An ASGI application by path, for POST.
    """

    def __init__(self, services: Services, scorings: Scorings) -> None:
        self._services = services
        self._scorings = scorings
        first = scorings.first
        self.routes: dict[str, ASGIApp] = {path: first.endpoint(path, self._infer) for path in (INFER, INFER_VERSION)}

    async def _infer(self, exchange: Exchange) -> None:
        """Answer the tensors of a request by tensors."""
        self._scorings.first.check_key(exchange.headers)
        name, version = exchange.parameters["model"], exchange.parameters.get("version")
        served = model_of(name, version, self._services, exchange.raw_headers, exchange.request_id)
        scoring = self._scorings.models[name]
        settings = scoring.settings
        head = head_bytes(exchange.headers, settings)
        limit, setting = settings.max_json_bytes, "MAX_JSON_BYTES"
        if head is not None:
            limit, setting = settings.max_body_bytes, "MAX_BODY_BYTES"
        turns = scoring.many.turns
        reader: Reader[Asked, Scored] = Reader(
            scoring.kind, lambda asked: asked.wanted.needs, limit, setting,
            lambda body: read_request(body, head, served, settings),
            turns if head is None or head > SMALL_BODY_BYTES else NO_TURN,
            partial(infer_answer, served, turns), NO_TURN,
        )  # fmt: skip
        await scoring.answer(exchange, served, reader)
