"""What every request must be before a route sees it, HEAD on whatever answers GET, and the types of all answers."""

import msgspec
import pytest

from app.config.settings import Settings
from app.console.live import LIVE_ROUTE
from tests.routes.support import Client, Row, ask, client_of, services_of


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


VOLATILE = {"date", "x-request-id", "content-length"}


def pages_of(client: Client) -> list[str]:
    """Paths that answer GET, without parameters in them, and that come to an end by themselves."""
    routes = [route.path for route in client.app.litestar.routes if "GET" in getattr(route, "methods", ())]
    return [path for path in routes if "{" not in path and path != LIVE_ROUTE]


def refused(client: Client) -> float:
    """Requests of `/info` that were bad."""
    labels = {"endpoint": "/info", "error_type": "bad_request"}
    return services_of(client).metrics.registry.get_sample_value("errors_total", labels) or 0.0


PLAIN = {"Accept-Encoding": "identity"}


async def test_head_answers_like_get_without_a_body(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, api_debug=True)) as client:
        routes = pages_of(client)
        assert {"/info", "/metrics", "/health", "/health/ready", "/predict/model/info", "/openapi.json"} < set(routes)
        for path in [*routes, "/docs/assets/swagger/swagger-ui.css", "/nothing"]:
            whole, head = await client.get(path, headers=PLAIN), await client.head(path, headers=PLAIN)
            assert (head.status_code, head.content) == (whole.status_code, b""), path
            assert head.headers.keys() == whole.headers.keys(), path
            same = whole.headers.keys() - VOLATILE - {"etag", "last-modified"}
            assert {name: head.headers[name] for name in same} == {name: whole.headers[name] for name in same}, path
            assert int(head.headers["content-length"]) > 0, path
            if path in ("/info", "/openapi.json", "/predict/model/info", "/health/live"):
                assert int(head.headers["content-length"]) == len(whole.content), path


async def test_head_is_counted_as_head_and_refused_where_get_is(own_client: Client) -> None:
    assert (await own_client.head("/health/live")).status_code == 200
    refused = await own_client.head("/predict")
    assert (refused.status_code, refused.content) == (405, b"")
    assert refused.headers["allow"] == "OPTIONS, POST"
    text = (await own_client.get("/metrics")).text
    counted = 'api_requests_total{endpoint="/health/live",method="HEAD",status_code="200"} 1.0'
    assert counted in text
    assert 'errors_total{endpoint="/predict",error_type="method_not_allowed"} 1.0' in text


async def test_options_lists_the_methods_of_a_route(client: Client) -> None:
    for path, methods in (("/info", "GET, HEAD, OPTIONS"), ("/predict", "OPTIONS, POST")):
        response = await client.options(path)
        assert response.status_code == 204
        assert response.headers["allow"] == methods


async def test_no_content_type_repeats_a_parameter(settings: Settings, example: Row) -> None:
    async with client_of(msgspec.structs.replace(settings, api_debug=True)) as client:
        answers = [await client.get(path) for path in [*pages_of(client), "/nothing"]]
        answers += [await client.post("/predict", json=row) for row in (example, {})]
        for accept in ("text/csv", "application/x-ndjson", "application/json"):
            bulk = await client.post("/predict/bulk", json={"rows": [example]}, headers={"Accept": accept})
            assert bulk.headers["content-type"] == accept
            answers.append(bulk)
        for answer in answers:
            _, *parameters = answer.headers["content-type"].split("; ")
            names = [parameter.partition("=")[0] for parameter in parameters]
            assert len(names) == len(set(names)), (answer.url, answer.headers["content-type"])


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", []), ("1.1", [b""]), ("1.1", [b"a", b"a"]), ("1.1", [b"a", b"b"]), ("1.1", [b"a b"]),
        ("1.1", [b"a/b"]), ("1.1", [b"user@a"]), ("1.1", [b"a\xff"]), ("1.0", [b"a", b"b"]), ("1.0", [b"a b"]),
    ],
)  # fmt: skip
async def test_400_for_a_missing_or_invalid_host(client: Client, version: str, headers: list[bytes]) -> None:
    before = refused(client)
    status, given, body = await ask(client, [(b"host", host) for host in headers], version=version)
    assert (status, given[b"content-type"]) == (400, b"application/problem+json")
    answer = msgspec.json.decode(body)
    assert answer["type"] == "urn:madrone:problem:bad-request"
    assert answer["request_id"] == given[b"x-request-id"].decode()
    assert "host" in answer["detail"].lower()
    status, given, body = await ask(client, [(b"host", host) for host in headers], version=version, method="HEAD")
    assert (status, body) == (400, b"")
    assert refused(client) == before + 2


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.0", []), ("1", [b""]), ("1.0", [b""]), ("1.1", [b"a"]), ("1.1", [b"a.example:8000"]),
        ("1.1", [b"[::1]:80"]), ("1.1", [b"under_score"]), ("1.1", [b"%c3%a9"]),
    ],
)  # fmt: skip
async def test_valid_hosts_are_accepted_and_http_1_0_needs_none(
    client: Client, version: str, headers: list[bytes]
) -> None:
    status, _, _ = await ask(client, [(b"host", host) for host in headers], version=version)
    assert status == 200


async def test_a_repeated_header_is_joined_or_refused(client: Client, example: Row) -> None:
    row, table = msgspec.json.encode(example), msgspec.json.encode({"rows": [example]})
    given = [(b"host", b"a"), (b"content-type", b"application/json")]
    for name in (b"content-type", b"content-length", b"authorization", b"x-api-key", b"transfer-encoding"):
        for pair in ([(name, b"a"), (name, b"a")], [(name, b"a"), (b"x-between", b"1"), (name, b"b")]):
            status, _, body = await ask(client, [*given, *pair], method="POST", path="/predict", body=row)
            assert status == 400
            assert msgspec.json.decode(body)["detail"] == f"The header {name.decode()} appears more than once."
    coded = [*given, (b"content-encoding", b"gzip"), (b"content-encoding", b"gzip")]
    status, _, body = await ask(client, coded, method="POST", path="/predict", body=row)
    assert status == 415
    accepted = [*given, (b"accept", b"text/csv"), (b"accept", b"text/html")]
    status, headers, body = await ask(client, accepted, method="POST", path="/predict/bulk", body=table)
    assert (status, headers[b"content-type"]) == (200, b"text/csv")
