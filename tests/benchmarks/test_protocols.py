"""Requests of `just bench protocols`, and what its page says."""

import msgspec
import numpy as np

from benchmarks.load import grpc_loop
from benchmarks.pages.protocols import page, targets
from benchmarks.protocols import HEAD_LENGTH, infer_binary
from benchmarks.report import context

ROWS = np.arange(16.0).reshape(2, 8)


def test_a_binary_request_is_a_json_head_and_the_values() -> None:
    head, _, body = infer_binary(ROWS).partition(b"\r\n\r\n")
    length = int(dict(line.split(b": ") for line in head.split(b"\r\n")[1:])[HEAD_LENGTH.encode()])
    (tensor,) = msgspec.json.decode(body[:length])["inputs"]
    assert tensor["shape"] == [2, 8]
    np.testing.assert_array_equal(np.frombuffer(body, np.float64, offset=length).reshape(2, 8), ROWS)


def test_a_message_holds_the_rows() -> None:
    made = grpc_loop.service_pb2.ModelInferRequest.FromString(grpc_loop.request(ROWS))
    np.testing.assert_array_equal(np.frombuffer(made.raw_input_contents[0], np.float64).reshape(2, 8), ROWS)


def measured(server: str, protocol: str, rows: int, requests_per_s: float) -> dict[str, object]:
    figures = dict.fromkeys(("p50_ms", "p99_ms", "generator_cpu"), 1.0)
    figures |= {"requests_per_s": requests_per_s, "rows_per_cpu_s": rows * requests_per_s}
    return {
        "server": server,
        "protocol": protocol,
        "rows": rows,
        "connections": 1,
        "body_bytes": 9,
        "rounds": [figures],
    }


def test_the_page_compares_protocols_and_peers() -> None:
    results = [
        measured("madrone", "/predict", 1, 1000), measured("madrone", "/invocations", 1, 650),
        measured("madrone", "/v2, binary", 1000, 600), measured("mlflow", "/invocations", 1, 26),
    ]  # fmt: skip
    report = context("protocols", "numpy") | {"rounds": 1, "seconds": 0.5, "results": results, "absent": {"x": "y"}}
    assert [target.held for target in targets(report)] == [False, True]
    assert "| 1 | 1 | mlflow models serve | /invocations | 9 | 26 | 26 | 1.00 | 1.00 | 100% | 25.0 |" in page(report)
    assert [target.held for target in targets(report | {"results": []})] == [None, None]
