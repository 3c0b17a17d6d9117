"""What prediction routes refuse, with which status and words, and under which request id."""

import logging

import msgspec
import pytest

from app.config.settings import Settings
from tests.routes.support import (
    ARROW,
    JSON,
    Array,
    Client,
    Hanging,
    Row,
    ask,
    client_of,
    compute_with,
    raw_post,
    row_of,
    served_by,
    services_of,
    settings_with,
    stream_of,
    varied,
)
from tests.support import problem


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


async def test_401_for_a_missing_or_wrong_key(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, api_key="sesame")) as client:
        for headers in (
            {},
            {"X-API-Key": "wrong"},
            {"X-API-Key": ""},
            {"X-API-Key": "sesame2"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic sesame"},
            {"X-API-Key": "wrong", "Authorization": "Basic sesame"},
            {"X-API-Key": "", "Authorization": "Basic sesame"},
        ):
            for path in ("/predict", "/predict/batch", "/predict/bulk"):
                response = await client.post(path, json=example, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert problem(response)["type"] == "urn:madrone:problem:unauthorized"
                assert "sesame" not in response.text


async def test_a_key_is_accepted_in_either_header(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, api_key="sesame", api_key_second="poppy")) as client:
        for headers in (
            {"X-API-Key": "sesame"}, {"Authorization": "Bearer sesame"}, {"Authorization": "bearer  sesame"},
            {"X-API-Key": "sesame", "Authorization": "Bearer sesame"},
            {"X-API-Key": "sesame", "Authorization": "Basic of-a-proxy"},
            {"X-API-Key": "poppy"}, {"Authorization": "Bearer poppy"},
        ):  # fmt: skip
            for path, body in (("/predict", example), ("/predict/batch", {"predictions": [example]})):
                assert (await client.post(path, json=body, headers=headers)).status_code == 200, headers
        assert (await client.get("/outcomes", headers={"X-API-Key": "poppy"})).status_code == 200
        two = {"X-API-Key": "sesame", "Authorization": "Bearer poppy"}
        assert (await client.post("/predict", json=example, headers=two)).status_code == 400


async def test_400_for_two_different_keys(settings: Settings, example: Row) -> None:
    keys = settings_with(settings, api_key="sesame", admin_api_key="sesame")
    right, wrong = (b"x-api-key", b"sesame"), (b"x-api-key", b"wrong")
    bearer, other = (b"authorization", b"Bearer sesame"), (b"authorization", b"Bearer wrong")
    given = [(b"host", b"a"), (b"content-type", b"application/json")]
    async with client_of(keys) as client:
        for path in ("/predict", "/predict/batch", "/predict/bulk", "/health/model/reload"):
            for pair in (
                (right, wrong), (wrong, right), (right, right), (bearer, other), (right, other), (wrong, bearer),
            ):  # fmt: skip
                content = msgspec.json.encode(example)
                status, _, body = await ask(client, [*given, *pair], method="POST", path=path, body=content)
                assert (status, msgspec.json.decode(body)["type"]) == (400, "urn:madrone:problem:bad-request")
                assert b"sesame" not in body


async def test_other_routes_stay_public_with_a_key(settings: Settings) -> None:
    async with client_of(settings_with(settings, api_key="sesame")) as client:
        for path in (
            "/predict/model/info", "/health", "/health/detailed", "/health/model", "/health/system", "/health/gpu",
            "/health/live", "/health/ready", "/info", "/metrics", "/openapi.json",
        ):  # fmt: skip
            assert (await client.get(path)).status_code == 200, path


async def test_413_for_json_beyond_max_json_bytes(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, max_json_bytes=1024)) as client:
        assert (await client.post("/predict", json=example)).status_code == 200
        for path in ("/predict", "/predict/batch", "/predict/bulk"):
            response = await client.post(path, json=example | {"Zip": "x" * 1024})
            assert response.status_code == 413, path
            assert problem(response)["detail"] == "The body is larger than MAX_JSON_BYTES."


async def test_413_for_other_formats_beyond_max_body_bytes(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, max_body_bytes=2048)) as client:
        for count, status in ((1, 200), (50, 413)):
            content = stream_of(varied(example, count), example)
            response = await client.post("/predict/bulk", content=content, headers=ARROW)
            assert response.status_code == status
        assert problem(response)["detail"] == "The body is larger than MAX_BODY_BYTES."


async def test_413_for_a_body_that_grows_beyond_its_limit(settings: Settings) -> None:
    chunks = [{"type": "http.request", "body": b" " * 512, "more_body": True}] * 5 + [{"type": "http.disconnect"}]
    async with client_of(settings_with(settings, max_json_bytes=1024)) as client:
        answer = await raw_post(client, chunks)
    assert answer[0]["status"] == 413


async def test_429_beyond_the_rate_limit(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, rate_limit=2)) as client:
        for _ in range(2):
            assert (await client.post("/predict", json=example)).status_code == 200
        response = await client.post("/predict", json=example)
        assert response.status_code == 429
        assert problem(response)["type"] == "urn:madrone:problem:too-many-requests"
        assert 0 <= int(response.headers["retry-after"]) <= 60
        assert (await client.get("/predict/model/info")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200


async def test_503_while_no_model_is_loaded(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, model_name="nobody-trained-this")) as client:
        for method, path in (("POST", "/predict"), ("POST", "/predict/batch"), ("GET", "/predict/model/info")):
            response = await client.request(method, path, json=example)
            assert response.status_code == 503, path
            assert response.headers["retry-after"] == "5"
            assert problem(response)["type"] == "urn:madrone:problem:model-unavailable"


async def test_504_when_computing_exceeds_the_request_timeout(settings: Settings, example: Row) -> None:
    bodies = {
        "/predict": (msgspec.json.encode(example), JSON),
        "/predict/batch": (msgspec.json.encode({"predictions": [example]}), JSON),
        "/predict/bulk": (stream_of(row_of(example), example), ARROW),
    }
    async with client_of(settings_with(settings, request_timeout=0.05)) as client:
        for path, (content, headers) in bodies.items():
            with Hanging() as hanging:
                compute_with(client, hanging)
                response = await client.post(path, content=content, headers=headers)
            assert response.status_code == 504, path
            assert problem(response)["detail"] == "The request was not answered within 0.05 seconds."


async def test_408_when_the_body_does_not_arrive_in_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.predict.body.DRAIN_SECONDS", 0.01)
    start = [{"type": "http.request", "body": b'{"MedInc":', "more_body": True}]
    async with client_of(settings_with(settings, request_timeout=0.05)) as client:
        answer = await raw_post(client, start)
    assert answer[0]["status"] == 408
    assert b"The body did not arrive within 0.05 seconds." in answer[1]["body"]


async def test_500_hides_its_cause_and_logs_it(client: Client, example: Row, caplog: pytest.LogCaptureFixture) -> None:
    def fail(rows: Array) -> Array:
        raise RuntimeError("secret of the house")

    compute_with(client, fail)
    response = await client.post("/predict", json=example)
    assert response.status_code == 500
    assert problem(response)["type"] == "urn:madrone:problem:internal"
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
    logged = [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]
    assert [str(record.exc_info[1]) for record in logged if record.exc_info] == ["secret of the house"]


async def test_the_application_continues_after_a_failure(client: Client, example: Row) -> None:
    served = served_by(client)

    def fail(rows: Array) -> Array:
        raise RuntimeError

    compute_with(client, fail)
    assert (await client.post("/predict", json=example)).status_code == 500
    services_of(client).slot.current = served
    assert (await client.post("/predict", json=example)).status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/predict/none/x", "/health/nothing", "/predict/model/x", "/docs/x"])
async def test_404_for_an_unknown_route(client: Client, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert problem(response)["detail"] == "This route does not exist."


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("DELETE", "/predict/batch", "POST"),
        ("PUT", "/predict/bulk", "POST"),
        ("GET", "/predict/none", "POST"),
        ("POST", "/health", "GET"),
        ("POST", "/health", "HEAD"),
        ("POST", "/predict/model/info", "GET"),
    ],
)
async def test_405_lists_the_methods_of_the_route(client: Client, method: str, path: str, allowed: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert allowed in response.headers["allow"].split(", ")
    assert problem(response)["type"] == "urn:madrone:problem:method-not-allowed"


@pytest.mark.parametrize("given", ["abc-123", "a" * 128, "01JD:trace/4+x=@_."])
async def test_a_valid_request_id_is_kept(client: Client, example: Row, given: str) -> None:
    response = await client.post("/predict", json=example, headers={"X-Request-ID": given})
    assert response.headers.get_list("x-request-id") == [given]
    assert response.json()["request_id"] == given


@pytest.mark.parametrize(
    "given",
    [b"has spaces", b"a" * 200, b"line\r\nSet-Cookie: a=b", b"line\nfeed", b"", b'<script>"', b"caf\xe9", b"a\n"],
)
async def test_an_unsafe_request_id_is_replaced(client: Client, given: bytes) -> None:
    response = await client.get("/health/live", headers=[(b"x-request-id", given)])
    identifier = response.headers["x-request-id"]
    assert identifier.isalnum()
    assert len(identifier) == 32
    assert "set-cookie" not in response.headers


async def test_every_answer_has_its_own_request_id(client: Client, example: Row) -> None:
    paths = ("/predict/model/info", "/health", "/info", "/metrics", "/nothing", "/openapi.json")
    responses = [await client.get(path) for path in paths]
    responses += [await client.post("/predict", json={}), await client.post("/predict", json=example)]
    identifiers = [response.headers["x-request-id"] for response in responses]
    assert len(set(identifiers)) == len(responses)


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip"])
async def test_other_encodings_than_gzip_and_zstd_are_refused(client: Client, example: Row, encoding: str) -> None:
    response = await client.post("/predict", json=example, headers={"Content-Encoding": encoding})
    assert response.status_code == 415
    assert problem(response)["detail"] == "Content-Encoding must be absent, or one of gzip, zstd, deflate."


async def test_a_disconnect_during_the_body_is_no_error_of_the_service(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    chunks = [{"type": "http.request", "body": b'{"MedInc"', "more_body": True}] + [{"type": "http.disconnect"}] * 2
    answer = await raw_post(client, chunks)
    assert answer[0]["status"] == 400
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
