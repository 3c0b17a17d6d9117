"""Compressed requests are answered as plain ones are, and cost no more than those may."""

import gzip
import zlib
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from app.codecs import compression
from app.codecs.columns import arrow
from app.codecs.compression import ENCODINGS
from app.config.settings import Settings
from tests.routes.support import (
    ARROW,
    JSON,
    Client,
    Row,
    client_of,
    raw_post,
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


BOMB_BYTES = 10**7


def fold(plain: bytes, encoding: str) -> bytes:
    if encoding == "deflate":
        return zlib.compress(plain)
    return gzip.compress(plain) if encoding == "gzip" else pa.compress(plain, codec=encoding, asbytes=True)


def bodies(example: Row) -> dict[str, tuple[bytes, dict[str, str]]]:
    """By path, a plain body and its headers."""
    return {
        "/predict": (msgspec.json.encode(example), JSON),
        "/predict/batch": (msgspec.json.encode({"predictions": [example] * 50}), JSON),
        "/predict/bulk": (stream_of(varied(example, 2000), example), ARROW),
    }


def predictions(content: bytes, media_type: str) -> list[float]:
    if media_type == arrow.MEDIA_TYPE:
        return pa.ipc.open_stream(content).read_all()["prediction"].to_pylist()
    answer: Any = msgspec.json.decode(content)
    return [item["prediction"] for item in answer.get("predictions", [answer])]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
async def test_a_compressed_body_is_answered_like_a_plain_one(
    client: Client, example: Row, path: str, encoding: str
) -> None:
    content, headers = bodies(example)[path]
    plain = await client.post(path, content=content, headers=headers)
    response = await client.post(
        path, content=fold(content, encoding), headers=headers | {"Content-Encoding": encoding}
    )
    assert plain.status_code == response.status_code == 200
    media_type = response.headers["content-type"]
    assert predictions(response.content, media_type) == predictions(plain.content, media_type)
    assert services_of(client).admission.rows() == {"held": 0, "queued": 0}


async def test_a_bulk_body_of_two_gzip_members_is_answered_whole(client: Client, example: Row) -> None:
    rows = varied(example, 30_000)
    content = stream_of(rows, example)
    folded = fold(content[:777_777], "gzip") + fold(content[777_777:], "gzip")
    response = await client.post("/predict/bulk", content=folded, headers=ARROW | {"Content-Encoding": "gzip"})
    expected = served_by(client).engine.predict(rows)
    np.testing.assert_array_equal(predictions(response.content, arrow.MEDIA_TYPE), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_413_for_a_decompression_bomb(settings: Settings, encoding: str) -> None:
    limits = settings_with(settings, max_json_bytes=100_000, max_body_bytes=200_000)
    bomb = fold(b" " * BOMB_BYTES, encoding)
    assert len(bomb) < limits.max_json_bytes
    async with client_of(limits) as client:
        for path, headers, setting in (
            ("/predict", JSON, "MAX_JSON_BYTES"),
            ("/predict/batch", JSON, "MAX_JSON_BYTES"),
            ("/predict/bulk", JSON, "MAX_JSON_BYTES"),
            ("/predict/bulk", ARROW, "MAX_BODY_BYTES"),
        ):
            response = await client.post(path, content=bomb, headers=headers | {"Content-Encoding": encoding})
            assert response.status_code == 413, path
            assert problem(response)["detail"] == f"The decompressed body is larger than {setting} allows."
            assert services_of(client).admission.rows() == {"held": 0, "queued": 0}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/bulk"])
async def test_400_for_a_truncated_or_uncompressed_body(client: Client, example: Row, path: str, encoding: str) -> None:
    content, headers = bodies(example)[path]
    for body in (content, fold(content, encoding)[:-1], fold(content, encoding) + b"and more"):
        response = await client.post(path, content=body, headers=headers | {"Content-Encoding": encoding})
        assert response.status_code == 400
        assert problem(response)["detail"] == f"The body is not valid {encoding} data."


async def test_nothing_is_decompressed_without_the_key(
    settings: Settings, example: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[Any] = []
    monkeypatch.setattr(compression.pa, "CompressedInputStream", streams.append)
    async with client_of(settings_with(settings, api_key="sesame")) as client:
        for path, (content, headers) in bodies(example).items():
            response = await client.post(
                path, content=fold(content, "gzip"), headers=headers | {"Content-Encoding": "gzip"}
            )
            assert response.status_code == 401
    assert streams == []


async def test_a_missing_key_is_answered_before_the_body_arrives(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.predict.body.DRAIN_SECONDS", 0.01)
    async with client_of(settings_with(settings, api_key="sesame", request_timeout=0.5)) as client:
        answer = await raw_post(client, [], content_encoding="gzip")
    assert answer[0]["status"] == 401


async def test_identity_encoding_is_plain(client: Client, example: Row) -> None:
    response = await client.post("/predict", json=example, headers={"Content-Encoding": "identity"})
    assert response.status_code == 200
