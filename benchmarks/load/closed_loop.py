"""Throughput of each server in a closed loop, with each kind of request."""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.bodies import ARRAYS, COLUMNS, JSON, OBJECTS, ROW, Wire, content_of
from benchmarks.contenders import ECHO, MADRONE, PEERS, VARIANTS, Peer
from benchmarks.load.plan import Plan, Record, load
from benchmarks.peers.process import PeerError

DISTINCT_REQUESTS = {1: 64, 100: 16, 1000: 8}
"""Number of different requests, by rows of a request."""
WARM_UP_S = 0.2
PAUSE_S = 0.1
TOLERANCE = 1e-12


class Case(NamedTuple):
    """One kind of request."""

    form: str
    rows: int
    connections: int


ROW_CASES = tuple(Case("row", 1, connections) for connections in (1, 16, 64))
BATCH_CASES = tuple(
    Case(form, rows, connections)
    for rows in (100, 1000)
    for connections in (1, 4)
    for form in ("objects", "arrays", "columns")
)
VARIANT_CONNECTIONS = 16


@dataclass(frozen=True)
class Asked:
    """Requests for a server, and the first bytes of right answers."""

    requests: list[bytes]
    starts: list[bytes]

    def plan(self, port: int, connections: int, seconds: float) -> Plan:
        """Plan of a closed loop."""
        return Plan(port=port, requests=self.requests, starts=self.starts, connections=connections, seconds=seconds)


def wire(key: str, form: str) -> Wire | None:
    """Wire form of a request for a server; None if the server is not measured with it."""
    if key == MADRONE.key:
        return {"row": ROW, "objects": OBJECTS, "arrays": ARRAYS, "columns": COLUMNS}[form]
    if form == "row":
        return next((peer.row for peer in PEERS if peer.key == key), ROW)
    return next((peer.rows for peer in PEERS if peer.key == key and form == "objects"), None)


def ask(peer: Peer, path: str, media_type: str, body: bytes) -> bytes:
    """Send a request, and return the body of the answer (PeerError: it is not answered with 200)."""
    headers = {"Content-Type": media_type, "Accept": media_type, "Accept-Encoding": "identity"}
    try:
        answer = httpx.post(f"{peer.url}{path}", content=body, headers=headers, timeout=120, trust_env=False)
    except httpx.TransportError as error:
        raise PeerError(f"no answer: {error!r}") from error
    if answer.status_code in (406, 415):
        raise PeerError(f"not taken ({answer.status_code})")
    if answer.status_code != 200:
        raise PeerError(f"answered {answer.status_code}: {answer.text[:160]}")
    return answer.content


def checked(predictions: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Compare predictions with the booster's (PeerError: they differ)."""
    predictions = predictions.reshape(-1)
    if predictions.shape != expected.shape or not np.allclose(predictions, expected, rtol=0, atol=TOLERANCE):
        raise PeerError("its predictions are not those of Booster.predict")


def asked(peer: Peer, taken: Wire, rows: NDArray[np.float64], expected: NDArray[np.float64], batch: int) -> Asked:
    """Requests for rows in batches; each is sent twice, and the answers are compared with the booster's.

    Raises:
        PeerError: An answer is not right.
    """
    requests: list[bytes] = []
    starts: list[bytes] = []
    for at in range(0, min(DISTINCT_REQUESTS[batch] * batch, len(rows)), batch):
        request = taken.request(rows[at : at + batch])
        body = content_of(request)
        requests.append(request)
        if peer.name == ECHO.name:
            starts.append(body)
            continue
        answers = [ask(peer, taken.path, JSON, body) for _ in range(2)]
        for answer in answers:
            checked(taken.predictions(answer), expected[at : at + batch])
        starts.append(start_of(answers, float(expected[at])))
    return Asked(requests, starts)


def start_of(answers: list[bytes], prediction: float) -> bytes:
    """Common start of the answers, up to the first prediction; empty if they differ before it."""
    text = repr(prediction).encode()
    found = {answer[: answer.find(text) + len(text)] for answer in answers if text in answer}
    return found.pop() if len(found) == 1 and all(text in answer for answer in answers) else b""


def figures(record: Record, rows: int, cpu_seconds: float) -> dict[str, float]:
    """Figures of one measurement, without requests answered in the first `WARM_UP_S`, unless those are all.

    Raises:
        PeerError: An answer was wrong.
    """
    if wrong := int((~record.ok()).sum()):
        raise PeerError(f"{wrong} of {len(record.due)} answers were wrong")
    start = record.due[0] + WARM_UP_S
    counted = record.answered >= start
    if not counted[:-1].any():
        start, counted = record.due[0], np.ones(len(record.due), np.bool_)
    latencies = (record.answered - record.sent)[counted]
    per_s = len(latencies) / float(record.answered.max() - start)
    p50, p99 = np.quantile(latencies, [0.5, 0.99]).tolist()
    return {
        "requests_per_s": per_s,
        "rows_per_s": rows * per_s,
        "rows_per_cpu_s": rows * len(record.due) / max(cpu_seconds, 1e-2),
        "p50_ms": 1e3 * p50,
        "p99_ms": 1e3 * p99,
        "generator_cpu": record.cpu_share,
    }


def measure_once(peer: Peer, what: Asked, case: Case, seconds: float) -> dict[str, float]:
    """Load a server, and read its processor time before and after."""
    time.sleep(PAUSE_S)
    before = peer.cpu_seconds()
    record = load(what.plan(peer.port, case.connections, WARM_UP_S + seconds))
    return figures(record, case.rows, peer.cpu_seconds() - before)


def cells(keys: list[str], cases: tuple[Case, ...]) -> list[tuple[Case, str]]:
    """Measurements of a round, in order; the variants have one case, which shows the cost of their settings."""
    variants = {variant.key for variant in VARIANTS}
    return [
        (case, key)
        for case in cases
        for key in keys
        if wire(key, case.form) and (key not in variants or case.connections == VARIANT_CONNECTIONS)
    ]


def cell_name(case: Case, key: str) -> str:
    return f"{key} {case.form}, {case.rows} rows, {case.connections} connections"


def measure(
    peers: dict[str, Peer],
    cases: tuple[Case, ...],
    rows: NDArray[np.float64],
    expected: dict[str, NDArray[np.float64]],
    rounds: int,
    seconds: float,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Figures of every cell and round; and the reason for each cell without."""
    found: dict[tuple[Case, str], list[dict[str, float]]] = {}
    absent: dict[str, str] = {}
    requests: dict[tuple[str, str, int], Asked] = {}
    for case, key in cells([*peers], cases):
        kind = key, case.form, case.rows
        taken = wire(*kind[:2])
        if taken is not None and kind not in requests and f"{key} {case.form}" not in absent:
            try:
                requests[kind] = asked(peers[key], taken, rows, expected.get(key, expected[""]), case.rows)
            except PeerError as error:
                absent[f"{key} {case.form}"] = str(error)
    for number in range(rounds):
        for case, key in cells([*peers], cases):
            what = requests.get((key, case.form, case.rows))
            if what is None or cell_name(case, key) in absent:
                continue
            try:
                figure = measure_once(peers[key], what, case, seconds)
            except PeerError as error:
                absent[cell_name(case, key)] = str(error)
                continue
            found.setdefault((case, key), []).append(figure)
        print(f"closed loop: round {number + 1} of {rounds}", flush=True)
    whole = {cell: figure for cell, figure in found.items() if len(figure) == rounds}
    return [{**case._asdict(), "server": key, "rounds": figure} for (case, key), figure in whole.items()], absent
