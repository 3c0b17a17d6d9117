"""Webhooks: which are taken, which are refused, and one that a real MLflow server sends."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet

from app.config.settings import Settings
from app.main import create_app
from app.routes import hooks
from tests.faults import MlflowServer
from tests.shelf import ROW, Shelf
from tests.support import HTTP, Client, Server, eventually, in_process, loaded, problem

SECRET = "what-only-the-two-know"
NAME = "california-housing-model"


@pytest.fixture
async def hooked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Client, list[None]]]:
    """A client of an app that takes webhooks, and the looks that it was asked for."""
    settings = msgspec.structs.replace(settings, mlflow_webhook_secret=SECRET)
    async with Client(create_app(settings, **in_process(settings))) as client:
        services = await loaded(client)
        looks: list[None] = []
        monkeypatch.setattr(services.keeper, "look_soon", lambda: looks.append(None))
        yield client, looks


def event(name: str = NAME, entity: str = "model_version_alias") -> bytes:
    return json.dumps(
        {"entity": entity, "action": "created", "timestamp": "2026-11-29T00:00:00+00:00",
         "data": {"name": name, "alias": "champion", "version": "3"}}
    ).encode()  # fmt: skip


def signed(body: bytes, secret: str = SECRET, delivery: str = "delivery", age: float = 0) -> dict[str, str]:
    timestamp = str(int(time.time() - age))
    content = f"{delivery}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()
    return {
        "X-MLflow-Signature": f"v1,{signature}",
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": timestamp,
        "Content-Type": "application/json",
    }


async def test_without_a_secret_there_is_no_such_route(client: Client) -> None:
    assert problem(await client.post("/hooks/mlflow", content=b"{}"))["status"] == 404


async def test_an_event_of_the_model_causes_a_look(hooked: tuple[Client, list[None]]) -> None:
    client, looks = hooked
    for number, entity in enumerate(sorted(hooks.WATCHED)):
        body = event(entity=entity)
        response = await client.post("/hooks/mlflow", content=body, headers=signed(body, delivery=str(number)))
        assert (response.status_code, response.json()) == (202, {"outcome": "looking"})
    assert len(looks) == len(hooks.WATCHED)


async def test_events_of_anything_else_are_ignored(hooked: tuple[Client, list[None]]) -> None:
    client, looks = hooked
    without_name = json.dumps({"entity": "model_version", "action": "created", "data": {}}).encode()
    for body in (event("another"), event(f"{NAME} "), event(entity="prompt"), event(entity="new"), without_name):
        response = await client.post("/hooks/mlflow", content=body, headers=signed(body))
        assert (response.status_code, response.json()) == (202, {"outcome": "ignored"})
    assert looks == []


async def test_a_repeated_delivery_causes_no_second_look(
    hooked: tuple[Client, list[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, looks = hooked
    monkeypatch.setattr(hooks, "MAX_DELIVERIES", 2)
    body, answers = event(), list[str]()
    for delivery in ("a", "a", "b", "c", "b", "a"):  # the oldest of three is forgotten
        response = await client.post("/hooks/mlflow", content=body, headers=signed(body, delivery=delivery))
        answers.append(response.json()["outcome"])
    assert answers == ["looking", "repeated", "looking", "looking", "repeated", "looking"]
    assert len(looks) == 4


@pytest.mark.parametrize(
    "altered",
    [
        {"X-MLflow-Signature": "v1,AAAA"},
        {"X-MLflow-Signature": ""},
        {"X-MLflow-Delivery-Id": "another"},
        {"X-MLflow-Timestamp": "0"},
        *({left_out: None} for left_out in ("X-MLflow-Signature", "X-MLflow-Delivery-Id", "X-MLflow-Timestamp")),
    ],
)
async def test_what_is_not_signed_is_refused(hooked: tuple[Client, list[None]], altered: dict[str, str | None]) -> None:
    client, looks = hooked
    headers = {name: value for name, value in (signed(event()) | altered).items() if value is not None}
    assert problem(await client.post("/hooks/mlflow", content=event(), headers=headers))["status"] == 401
    assert looks == []


async def test_another_secret_body_or_time_is_refused(hooked: tuple[Client, list[None]]) -> None:
    client, looks = hooked
    for body, headers in (
        (event(), signed(event(), secret="guessed")),
        (event("another"), signed(event())),
        (event(), signed(event(), age=hooks.MAX_AGE_S + 2)),
        (event(), signed(event(), age=-hooks.MAX_AGE_S - 2)),
    ):
        answer = problem(await client.post("/hooks/mlflow", content=body, headers=headers))
        assert answer["status"] == 401
        assert SECRET not in str(answer)
    assert looks == []


async def test_a_secret_can_be_changed_with_two_signatures(hooked: tuple[Client, list[None]]) -> None:
    client, looks = hooked
    old, new = signed(event(), secret="old"), signed(event())
    both = new | {"X-MLflow-Signature": f"{old['X-MLflow-Signature']} {new['X-MLflow-Signature']}"}
    assert (await client.post("/hooks/mlflow", content=event(), headers=both)).status_code == 202
    assert len(looks) == 1


async def test_a_signed_body_that_is_no_event_is_refused(hooked: tuple[Client, list[None]]) -> None:
    client, looks = hooked
    for body in (b"", b"{", b"[]", b'{"entity": 1}', b'{"entity": "model_version"}', b"\xff", b"[" * 100_000):
        answer = problem(await client.post("/hooks/mlflow", content=body, headers=signed(body)))
        assert answer["status"] == 400, body[:20]
    large = b" " * (hooks.MAX_BODY_BYTES + 1)
    assert problem(await client.post("/hooks/mlflow", content=large, headers=signed(large)))["status"] == 413
    assert looks == []


@pytest.fixture(scope="module")
def telling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an MLflow server that may send webhooks to this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", Fernet.generate_key().decode())
        patch.setenv("MLFLOW_WEBHOOK_CACHE_TTL", "1")  # or it would know of no webhook for a minute
        patch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
        patch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http,https")
        with MlflowServer(tmp_path_factory.mktemp("telling-server")) as server:
            yield server.url


@pytest.mark.slow
def test_a_real_server_tells_of_an_alias(telling_server: str, serve: Callable[..., Server], tmp_path: Path) -> None:
    shelf = Shelf(telling_server, "told", tmp_path)
    first, second = shelf.good(), shelf.good(alias=None)
    server = serve(
        MLFLOW_TRACKING_URI=telling_server, MODEL_NAME="told", MODEL_ALIAS="champion", MLFLOW_WEBHOOK_SECRET=SECRET,
        MODEL_CACHE_TTL="3600",
    ).wait_ready()  # fmt: skip
    hook: Any = shelf.client.create_webhook(
        "madrone", f"{server.url}/hooks/mlflow", ["model_version_alias.created"], secret=SECRET
    )
    tested = shelf.client.test_webhook(hook.webhook_id)
    assert (tested.success, tested.response_status) == (True, 202)

    def answer() -> tuple[float, str]:
        body = HTTP.post(f"{server.url}/predict", json=ROW).json()
        return body["prediction"], body["model_version"]

    assert answer() == (shelf.predictions[first], first)
    shelf.point("champion", second)
    eventually(lambda: answer() == (shelf.predictions[second], second), timeout=60)
