"""Webhooks of an MLflow server: a change of the model is looked at now, and not at the next planned look."""

import base64
import hashlib
import hmac
import time
from collections import OrderedDict
from typing import Any, Literal

import msgspec
from litestar import Request, Response, Router, post

from app.container import InjectedServices
from app.errors import MalformedBody, Unauthorized
from app.headers import headers_of
from app.problems import problem_responses

MAX_BODY_BYTES = 1024 * 1024
"""MLflow sends the tags of a new version along, and a tag may have 100,000 characters."""

MAX_AGE_S = 300
"""Largest difference between the time of a delivery and this machine's clock, as in Standard Webhooks."""

MAX_DELIVERIES = 1000
MAX_SIGNATURES = 10

WATCHED = frozenset({"registered_model", "model_version", "model_version_tag", "model_version_alias"})
"""Kinds of things whose changes can change which version is served, or what is known of it."""


class Changed(msgspec.Struct, frozen=True):
    """What a change is about. Every kind that is watched has the name of the registered model."""

    name: str = ""


class Event(msgspec.Struct, frozen=True):
    """Body of a webhook (mlflow/webhooks/delivery.py).

    Attributes:
        entity: Kind of the thing that changed.
        data: What the change is about.
    """

    entity: str
    data: Changed


class HookAnswer(msgspec.Struct, frozen=True):
    """Answer to a webhook: whether the registry is looked at now, or why not."""

    outcome: Literal["looking", "ignored", "repeated"]


class Deliveries:
    """Remembers the newest deliveries, so that a repeated one has no effect."""

    def __init__(self) -> None:
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def add(self, delivery: bytes) -> bool:
        """Remember a delivery, and say whether it is new."""
        if delivery in self._ids:
            return False
        self._ids[delivery] = None
        if len(self._ids) > MAX_DELIVERIES:
            self._ids.popitem(last=False)
        return True


def check_signature(headers: dict[bytes, bytes], body: bytes, secret: str, now: float) -> bytes:
    """Check that a webhook was signed with the secret, and not long ago.

    MLflow signs `delivery.timestamp.body` by HMAC-SHA256 and sends `v1,` with the Base64 of it
    (mlflow/webhooks/delivery.py).

    Args:
        headers: Headers of the request, names in lower case.
        body: Body of the request.
        secret: MLFLOW_WEBHOOK_SECRET.
        now: Seconds since 1970.

    Returns:
        Id of the delivery.

    Raises:
        Unauthorized: A header is missing, the signature is not the secret's, or the time is too far from `now`.
    """
    delivery, timestamp, signatures = (
        headers.get(f"x-mlflow-{name}".encode(), b"") for name in ("delivery-id", "timestamp", "signature")
    )
    if not delivery or not timestamp or not signatures:
        raise Unauthorized("A webhook needs the headers X-MLflow-Signature, X-MLflow-Delivery-Id, X-MLflow-Timestamp.")
    signed = hmac.digest(secret.encode(), b".".join((delivery, timestamp, body)), hashlib.sha256)
    expected = b"v1," + base64.b64encode(signed)
    # Several signatures, separated by blanks, come from a sender that changes its secret.
    if not any(hmac.compare_digest(one, expected) for one in signatures.split(b" ")[:MAX_SIGNATURES]):
        raise Unauthorized("The webhook's signature is not that of MLFLOW_WEBHOOK_SECRET.")
    if not timestamp.isdigit() or len(timestamp) > 12 or abs(int(timestamp) - now) > MAX_AGE_S:
        raise Unauthorized(f"The webhook's time differs from this machine's clock by more than {MAX_AGE_S} s.")
    return hashlib.sha256(delivery).digest()


def hooks_router() -> Router:
    """The route of webhooks, with its own memory of deliveries."""
    deliveries = Deliveries()

    @post(
        "/mlflow",
        status_code=202,
        request_max_body_size=MAX_BODY_BYTES,
        responses=problem_responses(400, 401, 413, 500),
        summary="Take a webhook of MLflow",
    )
    async def mlflow_hook(services: InjectedServices, request: Request[Any, Any, Any]) -> Response[HookAnswer]:
        """Look into the registry now, because MLflow says that something changed.

        Events of models that are not served are ignored. Many events in a burst cause one look now and one after it.
        The request is answered before any look.
        """
        body = await request.body()
        secret = services.settings.mlflow_webhook_secret or ""
        delivery = check_signature(headers_of(request.scope), body, secret, time.time())  # pyright: ignore[reportArgumentType]
        try:
            event = msgspec.json.decode(body, type=Event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedBody("The body is not an event of MLflow.") from None
        changed = services.models.get(event.data.name) if event.entity in WATCHED else None
        if changed is None:
            return Response(HookAnswer("ignored"), status_code=202)
        if not deliveries.add(delivery):
            return Response(HookAnswer("repeated"), status_code=202)
        changed.keeper.look_soon()
        return Response(HookAnswer("looking"), status_code=202)

    return Router("/hooks", route_handlers=[mlflow_hook], tags=["hooks"])
