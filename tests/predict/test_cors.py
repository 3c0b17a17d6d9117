"""Direct routes have the cross-origin headers that Litestar gives to its own routes."""

import httpx
import pytest

from app.config.settings import Settings
from tests.routes.support import Row, client_of, problem, settings_with

ORIGIN = "https://a.example"


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {
        name: value for name, value in response.headers.items() if name.startswith("access-control-") or name == "vary"
    }


@pytest.mark.parametrize("allowed", [(ORIGIN,), (ORIGIN, "https://b.example"), ("*",)])
@pytest.mark.parametrize("cookie", [{}, {"Cookie": "a=b"}])
async def test_direct_routes_answer_as_litestar_does(
    settings: Settings, example: Row, allowed: tuple[str, ...], cookie: dict[str, str]
) -> None:
    async with client_of(settings_with(settings, cors_origins=allowed)) as client:
        for origin in (ORIGIN, "https://c.example"):
            headers = {"Origin": origin} | cookie
            direct = await client.post("/predict", json=example, headers=headers)
            refused = await client.post("/predict", json={}, headers=headers)
            litestar = await client.get("/predict/model/info", headers=headers)
            assert (direct.status_code, refused.status_code, litestar.status_code) == (200, 422, 200)
            assert cors_headers(direct) == cors_headers(refused) == cors_headers(litestar) != {}
        assert cors_headers(await client.post("/predict", json=example)) == {}


async def test_a_preflight_request_is_answered(settings: Settings) -> None:
    async with client_of(settings_with(settings, cors_origins=(ORIGIN,))) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        for path in ("/predict", "/predict/", "/info"):
            answer = await client.options(path, headers={"Origin": ORIGIN} | asked)
            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            refused = await client.options(path, headers={"Origin": "https://c.example"} | asked)
            assert refused.status_code == 400


async def test_a_page_may_read_that_it_is_over_the_rate_limit(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, cors_origins=(ORIGIN,), rate_limit=1)) as client:
        await client.post("/predict", json=example)
        refused = await client.post("/predict", json=example, headers={"Origin": ORIGIN})
        assert problem(refused)["status"] == 429
        assert refused.headers["access-control-allow-origin"] == ORIGIN
