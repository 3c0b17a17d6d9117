"""Answers are compressed where Accept-Encoding asks for it, they are text, and they are large enough."""

import gzip
import zlib
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from app.predict import compressed
from app.predict.compressed import AT_ONCE_BYTES, LEAST_BYTES, chosen_encoding
from tests.routes.support import ARROW, JSON, Client, Row, services_of, stream_of, varied


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


UNPACK: dict[str, Any] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda packed: pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read(),
}


async def raw(client: Client, method: str, path: str, accept: str, **request: Any) -> tuple[Any, bytes]:
    """An answer, and its bytes as they were sent."""
    headers = request.pop("headers", {}) | {"Accept-Encoding": accept}
    async with client.stream(method, path, headers=headers, **request) as response:
        return response, b"".join([part async for part in response.aiter_raw()])


@pytest.mark.parametrize("at_once", [AT_ONCE_BYTES, LEAST_BYTES])
@pytest.mark.parametrize("encoding", UNPACK)
async def test_a_compressed_batch_is_the_plain_one(
    client: Client, example: Row, encoding: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "AT_ONCE_BYTES", at_once)
    rows = services_of(client).settings.max_batch_size
    body = msgspec.json.encode({"predictions": [example] * rows})
    headers = JSON | {"X-Request-ID": "same"}
    plain = await client.post("/predict/batch", content=body, headers=headers | {"Accept-Encoding": "identity"})
    response, packed = await raw(client, "POST", "/predict/batch", encoding, content=body, headers=headers)
    assert response.headers["Content-Encoding"] == encoding
    assert response.headers["Vary"] == "Accept-Encoding"
    assert int(response.headers.get("Content-Length", len(packed))) == len(packed) < len(plain.content) / 3
    assert LEAST_BYTES < len(plain.content) < AT_ONCE_BYTES
    found, expected = msgspec.json.decode(UNPACK[encoding](packed)), plain.json()
    assert found | {"processing_time_ms": 0} == expected | {"processing_time_ms": 0}


async def test_a_large_table_is_compressed_part_by_part(client: Client, example: Row) -> None:
    body, headers = stream_of(varied(example, 60_000), example), ARROW | {"Accept": "application/json"}
    plain = await client.post("/predict/bulk", content=body, headers=headers | {"Accept-Encoding": "identity"})
    assert len(plain.content) > 1_000_000
    response, packed = await raw(client, "POST", "/predict/bulk", "gzip", content=body, headers=headers)
    assert "Content-Length" not in response.headers
    assert gzip.decompress(packed) == plain.content


async def test_small_and_binary_answers_stay_as_they_are(client: Client, example: Row) -> None:
    small, _ = await raw(client, "POST", "/predict", "gzip", json=example)
    binary, _ = await raw(
        client, "POST", "/predict/bulk", "gzip", content=stream_of(varied(example, 3000), example), headers=ARROW
    )
    assert int(small.headers["Content-Length"]) < LEAST_BYTES < int(binary.headers["Content-Length"])
    assert "Content-Encoding" not in small.headers
    assert "Content-Encoding" not in binary.headers


async def test_documents_are_compressed_too(client: Client) -> None:
    plain = await client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    response, packed = await raw(client, "GET", "/openapi.json", "gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == plain.content


async def test_head_tells_the_headers_of_a_compressed_answer(client: Client) -> None:
    response = await client.head("/openapi.json", headers={"Accept-Encoding": "gzip"})
    got = await raw(client, "GET", "/openapi.json", "gzip")
    assert response.content == b""
    assert response.headers["Content-Length"] == got[0].headers["Content-Length"]


async def test_errors_are_compressed_only_if_they_are_large(client: Client) -> None:
    body = {"predictions": [{"no such feature": 1.0}] * 100}
    large, _ = await raw(client, "POST", "/predict/batch", "gzip", json=body)
    small, _ = await raw(client, "POST", "/predict", "gzip", content=b"{", headers=JSON)
    assert large.headers["Content-Encoding"] == "gzip"
    assert small.status_code == 400
    assert "Content-Encoding" not in small.headers


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"), ("x-gzip", "gzip"), ("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate", "gzip"),
        ("deflate", "deflate"), ("GZIP;Q=1", "gzip"), ("gzip;q=0.5, deflate;q=0.8", "deflate"), ("*", "zstd"),
        ("*;q=0.1, gzip;q=0.2", "gzip"), ("zstd;q=0, *", "gzip"), ("gzip;q=0.5, identity", None), ("", None),
        ("br", None), ("identity", None), ("gzip;q=0", None), ("*;q=0", None), ("gzip;q=x", None), ("gzip;v=1", None),
        ("gzip;q=nan", None), ("gzip ; q = 0.3", "gzip"),
    ],
)  # fmt: skip
def test_the_encoding_follows_the_weights(accepted: str, encoding: str | None) -> None:
    assert chosen_encoding(accepted.encode()) == encoding
