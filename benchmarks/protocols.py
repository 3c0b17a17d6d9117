"""Speed of the protocols beside each other, and beside the servers that they come from, with one worker each.

    just bench protocols [--rounds 7] [--seconds 0.6] [--only madrone mlflow mlserver] [--quick]

Method: the plain booster of `just bench http`, of 500 trees of 31 leaves on 8 numbers. One row a request over 16
connections, and 1,000 rows over 1 connection. Every answer is first compared with `Booster.predict`; then protocols and
servers take turns, round after round. A figure is the median over the rounds, a ratio the median of the rounds' own
ratios. Rows/s of a core are those of a second of the server's processor time. HTTP is loaded by
benchmarks/load/generator.py, gRPC by benchmarks/load/grpc_loop.py, each in a process of its own on the same machine.

`mlflow models serve` gets the same bodies at /invocations, and MLServer at /v2. The report goes to
benchmarks/reports/protocols.md and .json.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.bodies import ARRAYS, JSON, OBJECTS, ROW, content_of, http_request
from benchmarks.contenders import MADRONE, MLFLOW, MODEL_NAME, PEERS, Peer, free_port, register, running
from benchmarks.load import grpc_loop
from benchmarks.load.closed_loop import PAUSE_S, WARM_UP_S, checked, figures
from benchmarks.load.plan import Plan, load
from benchmarks.pages.protocols import page
from benchmarks.peers.process import PeerError
from benchmarks.report import begin, context, parser, save
from benchmarks.rows import DISTINCT_ROWS, make_rows, train_model

Rows = NDArray[np.float64]
PACKAGES = ("madrone", "granian", "grpcio", "lightgbm", "mlflow", "tritonclient")
CASES = ((1, 16), (1000, 1))
"""Rows of a request, and connections."""
DISTINCT = {1: 64, 1000: 8}
HEAD_LENGTH = "Inference-Header-Content-Length"


class Arm(NamedTuple):
    """A protocol of a server.

    Attributes:
        server: Key of the server.
        protocol: Name in the report.
        request: Whole request with some rows; for gRPC, the message.
        read: Predictions of an answer's body, given the bytes of its JSON head where it has one.
        rows: Rows of a request that it is measured with.
    """

    server: str
    protocol: str
    request: Callable[[Rows], bytes]
    read: Callable[[bytes, int], Rows]
    rows: tuple[int, ...] = (1, 1000)


def in_json(values: Callable[[Any], list[float]]) -> Callable[[bytes, int], Rows]:
    return lambda body, _: np.array(values(msgspec.json.decode(body)), np.float64)


def infer_json(rows: Rows) -> bytes:
    tensor = {"name": "features", "shape": rows.shape, "datatype": "FP64", "data": rows.ravel().tolist()}
    return http_request(f"/v2/models/{MODEL_NAME}/infer", JSON, msgspec.json.encode({"inputs": [tensor]}))


def infer_binary(rows: Rows) -> bytes:
    raw = rows.tobytes()
    tensor = {
        "name": "features", "shape": rows.shape, "datatype": "FP64", "parameters": {"binary_data_size": len(raw)},
    }  # fmt: skip
    head = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    made = http_request(f"/v2/models/{MODEL_NAME}/infer", "application/octet-stream", head + raw)
    return made.replace(b"\r\n\r\n", f"\r\n{HEAD_LENGTH}: {len(head)}\r\n\r\n".encode(), 1)


def mlserver_json(rows: Rows) -> bytes:
    return infer_json(rows).replace(f"/{MODEL_NAME}/".encode(), b"/forest/", 1)


OUTPUT = in_json(lambda body: body["outputs"][0]["data"])
PREDICTIONS = in_json(lambda body: body["predictions"])
ARMS = (
    Arm("madrone", "/predict", ROW.request, in_json(ROW.decode), (1,)),
    Arm("madrone", "/predict/batch", OBJECTS.request, in_json(OBJECTS.decode), (1000,)),
    Arm("madrone", "/predict/bulk, JSON arrays", ARRAYS.request, in_json(ARRAYS.decode), (1000,)),
    Arm("madrone", "/invocations", MLFLOW.request, PREDICTIONS),
    Arm("madrone", "/v2, JSON", infer_json, OUTPUT),
    Arm("madrone", "/v2, binary", infer_binary, lambda body, head: np.frombuffer(body, np.float64, offset=head)),
    Arm("madrone", "gRPC", grpc_loop.request, lambda body, _: grpc_loop.predictions(body)),
    Arm("mlflow", "/invocations", MLFLOW.request, PREDICTIONS),
    Arm("mlserver", "/v2, JSON", mlserver_json, OUTPUT),
)


class Load(NamedTuple):
    """Requests of an arm, each with the first bytes of its right answer."""

    arm: Arm
    requests: list[bytes]


class Servers:
    """The servers that run, with Madrone's port for gRPC."""

    def __init__(self, arguments: argparse.Namespace, directory: Path, stack: ExitStack) -> None:
        self.peers: dict[str, Peer] = {}
        self.absent: dict[str, str] = {}
        self.grpc_port = free_port()
        model = train_model(arguments.cache)
        register(model, directory)
        booster = lgb.Booster(model_file=model / "model.lgb")
        self.rows = make_rows(DISTINCT_ROWS, 3)
        self.expected = np.asarray(booster.predict(self.rows, num_threads=1))
        for contender in (MADRONE, *PEERS):
            if contender.key in arguments.only:
                print(f"starting {contender.name}", flush=True)
                environ = {"GRPC_PORT": str(self.grpc_port)} if contender is MADRONE else {}
                try:
                    started = running(contender, model, directory, arguments.cache, **environ)
                    self.peers[contender.key] = stack.enter_context(started)
                except PeerError as error:
                    print(f"{contender.key}: {error}", file=sys.stderr, flush=True)
                    self.absent[contender.key] = str(error)

    def prepared(self, arm: Arm, batch: int) -> Load:
        """Requests of an arm, whose answers are compared with the booster's.

        Raises:
            PeerError: An answer is not right.
        """
        requests: list[bytes] = []
        for at in range(0, DISTINCT[batch] * batch, batch):
            requests.append(arm.request(self.rows[at : at + batch]))
            body, head = self._ask(arm, requests[-1])
            checked(arm.read(body, head), self.expected[at : at + batch])
        return Load(arm, requests)

    def measure(self, what: Load, batch: int, connections: int, seconds: float) -> dict[str, float]:
        """Load a server once."""
        time.sleep(PAUSE_S)
        peer = self.peers[what.arm.server]
        before = peer.cpu_seconds()
        if what.arm.protocol == "gRPC":
            record = grpc_loop.load(self.grpc_port, what.requests, connections, WARM_UP_S + seconds)
        else:
            plan = Plan(port=peer.port, requests=what.requests, connections=connections, seconds=WARM_UP_S + seconds)
            record = load(plan)
        return figures(record, batch, peer.cpu_seconds() - before)

    def _ask(self, arm: Arm, request: bytes) -> tuple[bytes, int]:
        if arm.protocol == "gRPC":
            return grpc_loop.ask(self.grpc_port, request), 0
        head, _, content = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines) | {"Accept-Encoding": "identity"}
        url = self.peers[arm.server].url + first.split(" ")[1]
        answer = httpx.post(url, content=content, headers=headers, timeout=120, trust_env=False)
        if answer.status_code != 200:
            raise PeerError(f"answered {answer.status_code}: {answer.text[:160]}")
        return answer.content, int(answer.headers.get(HEAD_LENGTH, 0))


def measure(servers: Servers, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Figures of every arm and round, in turns."""
    cells: list[tuple[Load, int, int]] = []
    for batch, connections in CASES:
        for arm in ARMS:
            if arm.server in servers.peers and batch in arm.rows:
                try:
                    cells.append((servers.prepared(arm, batch), batch, connections))
                except PeerError as error:
                    servers.absent[f"{arm.server} {arm.protocol}, {batch} rows"] = str(error)
    found: list[list[dict[str, float]]] = [[] for _ in cells]
    for number in range(rounds):
        for figure, cell in zip(found, cells, strict=True):
            figure.append(servers.measure(*cell, seconds))
        print(f"round {number + 1} of {rounds}", flush=True)
    return [
        {"server": what.arm.server, "protocol": what.arm.protocol, "rows": batch, "connections": connections,
         "body_bytes": len(what.requests[0] if what.arm.protocol == "gRPC" else content_of(what.requests[0])),
         "rounds": figure}
        for (what, batch, connections), figure in zip(cells, found, strict=True)
    ]  # fmt: skip


def main() -> None:
    options = parser(__doc__, quick="short, Madrone alone")
    options.add_argument("--rounds", type=int, help="measurements of each protocol (7; 1 with --quick)")
    options.add_argument("--seconds", type=float, help="length of one measurement (0.6; 0.4 with --quick)")
    options.add_argument("--only", nargs="+", choices=("madrone", "mlflow", "mlserver"), help="servers")
    arguments = begin(options)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 7)
    arguments.seconds = arguments.seconds or (0.4 if arguments.quick else 0.6)
    arguments.only = arguments.only or (["madrone"] if arguments.quick else ["madrone", "mlflow", "mlserver"])
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        servers = Servers(arguments, Path(directory), stack)
        results = measure(servers, arguments.rounds, arguments.seconds)
    report = context("protocols", *PACKAGES) | {
        "rounds": arguments.rounds, "seconds": arguments.seconds, "results": results, "absent": servers.absent,
    }  # fmt: skip
    save("protocols", report, page, arguments.reports)


if __name__ == "__main__":
    main()
