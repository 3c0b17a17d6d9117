"""Requests and answers in every format: rows to bytes, and bytes to predictions."""

import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.rows import NAMES

Rows = NDArray[np.float64]
JSON = "application/json"


class Wire(NamedTuple):
    """Form of JSON requests: path to post to, rows float64[B, F] to JSON values, and JSON values to predictions."""

    path: str
    encode: Callable[[Rows], Any]
    decode: Callable[[Any], list[float]]

    def request(self, rows: Rows) -> bytes:
        """The whole HTTP request."""
        return http_request(self.path, JSON, json.dumps(self.encode(rows)).encode())

    def predictions(self, body: bytes) -> Rows:
        """float64[B] of an answer's body."""
        return np.array(self.decode(json.loads(body)), dtype=np.float64)


class Format(NamedTuple):
    """Format of bulk requests and answers: name in the report, media type, rows to bytes, and bytes to predictions."""

    name: str
    media_type: str
    encode: Callable[[Rows], bytes]
    decode: Callable[[bytes], Rows]

    def request(self, rows: Rows) -> bytes:
        """The whole HTTP request to /predict/bulk."""
        return http_request("/predict/bulk", self.media_type, self.encode(rows))


def http_request(path: str, media_type: str, content: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {media_type}\r\nAccept: {media_type}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def content_of(request: bytes) -> bytes:
    """The body of a request."""
    return request.partition(b"\r\n\r\n")[2]


def objects(rows: Rows, names: tuple[str, ...] = NAMES) -> list[dict[str, float]]:
    """Each row as an object by name."""
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def _columns(rows: Rows) -> dict[str, list[float]]:
    return dict(zip(NAMES, rows.T.tolist(), strict=True))


ROW = Wire("/predict", lambda rows: objects(rows)[0], lambda body: [body["prediction"]])
OBJECTS = Wire(
    "/predict/batch",
    lambda rows: {"predictions": objects(rows)},
    lambda body: [item["prediction"] for item in body["predictions"]],
)
ARRAYS = Wire(
    "/predict/bulk",
    lambda rows: {"data": rows.tolist(), "names": NAMES},
    lambda body: body["columns"]["prediction"],
)
COLUMNS = ARRAYS._replace(encode=lambda rows: {"columns": _columns(rows)})
"""Forms of requests to Madrone."""


def _table(rows: Rows) -> Any:
    return pa.table(dict(zip(NAMES, np.ascontiguousarray(rows.T), strict=True)))


def _to_arrow(rows: Rows) -> bytes:
    table = _table(rows)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _to_parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        _table(rows), sink, use_dictionary=False
    )  # a dictionary of repeated rows would make the file smaller than real rows do
    return sink.getvalue()


def _to_npy(rows: Rows) -> bytes:
    sink = io.BytesIO()
    np.save(sink, rows)
    return sink.getvalue()


def _to_msgpack(rows: Rows) -> bytes:
    return msgspec.msgpack.encode({"shape": rows.shape, "dtype": "float64", "data": rows.tobytes(), "names": NAMES})


def _to_csv(rows: Rows) -> bytes:
    return (",".join(NAMES) + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows.tolist())).encode()


def _to_ndjson(rows: Rows) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in objects(rows))


def _from_msgpack(body: bytes) -> Rows:
    found = msgspec.msgpack.decode(body)
    return np.frombuffer(found["data"], found["dtype"])


FORMATS = (
    Format(
        "Arrow IPC", "application/vnd.apache.arrow.stream", _to_arrow,
        lambda body: pa.ipc.open_stream(body).read_all()["prediction"].to_numpy(),
    ),
    Format(
        "Parquet", "application/vnd.apache.parquet", _to_parquet,
        lambda body: pq.read_table(pa.BufferReader(body))["prediction"].to_numpy(),
    ),
    Format("npy", "application/x-npy", _to_npy, lambda body: np.load(io.BytesIO(body), allow_pickle=False)),
    Format("MessagePack", "application/msgpack", _to_msgpack, _from_msgpack),
    Format("CSV", "text/csv", _to_csv, lambda body: pd.read_csv(io.BytesIO(body))["prediction"].to_numpy()),
    Format(
        "NDJSON", "application/x-ndjson", _to_ndjson,
        lambda body: np.array([msgspec.json.decode(line)["prediction"] for line in body.splitlines()]),
    ),
)  # fmt: skip
