"""The prediction routes are answered in one way, however their path is spelt and whatever options are set."""

from typing import Any

import msgspec
import pytest
from litestar import Litestar

from app.config.settings import Settings
from app.predict.routing import DirectRoutes, RouteTable
from tests.routes.support import JSON, Client, Row, ask, client_of, settings_with

ORIGIN = "https://a.example"
OPTIONS = [{}, {"cors_origins": (ORIGIN,)}, {"rate_limit": 100}, {"cors_origins": (ORIGIN,), "rate_limit": 100}]
SPELLINGS = ["{}", "{}/", "{}//", "/{}"]


@pytest.fixture
def litestar_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests that reached Litestar."""
    paths: list[str] = []
    call = Litestar.__call__

    async def counted(self: Litestar, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            paths.append(scope["path"])
        await call(self, scope, receive, send)

    monkeypatch.setattr(Litestar, "__call__", counted)
    return paths


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "cors", "rate limit", "both"])
async def test_predictions_never_pass_litestar(
    settings: Settings, example: Row, litestar_paths: list[str], options: dict[str, Any]
) -> None:
    bodies: dict[str, Any] = {
        "/predict": example,
        "/predict/batch": {"predictions": [example]},
        "/predict/bulk": {"rows": [example]},
    }
    async with client_of(settings_with(settings, **options)) as client:
        for path, content in bodies.items():
            for spelling in SPELLINGS:
                given = [(b"host", b"a"), (b"content-type", b"application/json"), (b"origin", ORIGIN.encode())]
                body = msgspec.json.encode(content)
                status, _, _ = await ask(client, given, method="POST", path=spelling.format(path), body=body)
                assert status == 200, (path, spelling)
        assert litestar_paths == []
        text = (await client.get("/metrics")).text
        for path in bodies:
            counted = f'api_requests_total{{endpoint="{path}",method="POST",status_code="200"}} {len(SPELLINGS)}.0'
            assert counted in text
        assert litestar_paths == ["/metrics"]


async def test_other_methods_and_paths_reach_litestar(client: Client, litestar_paths: list[str]) -> None:
    assert (await client.get("/predict")).status_code == 405
    assert (await client.post("/predict/others/more", content=b"{}", headers=JSON)).status_code == 404
    assert (await client.get("/health/live")).status_code == 200
    assert litestar_paths == ["/predict", "/predict/others/more", "/health/live"]


async def test_the_lifespan_is_handed_on() -> None:
    scopes: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    await DirectRoutes(inner, RouteTable({}))({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert scopes == [{"type": "lifespan"}]
