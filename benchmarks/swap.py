"""Swaps of the model under load: right answers, latency during swaps, and memory after many.

    just bench swap [--swaps 50] [--rounds 5] [--seconds 6] [--pause 0.5] [--memory-swaps 200] [--limit 600]

Method: a real `mlflow server` holds two versions of one registered model: the bundled model, and one whose leaves have
1.25 times its values, so that the forests are of one size and no prediction is that of the other. `madrone serve` reads
from it. A swap moves the alias to the other version, asks for POST /health/model/reload, and is over when that is
answered; the next follows after `--pause` seconds.

First under load: 16 keep-alive connections ask for one row after the other, from a process of its own. Each round has
`--seconds` without a swap and then its share of the swaps. An answer is right if it is a 200 and holds, to 1e-12, what
the engine predicts with the version that the answer names. Latencies with swaps are those of requests that were under
way while a swap was; the ratio is the median of the rounds' own ratios.

Then without load: `--memory-swaps` more swaps, with the resident memory of the worker process.

After `--limit` seconds no swap is begun, and the report says how many are missing. The exit status is 1 if an answer
was wrong. The report goes to benchmarks/reports/swap.md and .json.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import lightgbm as lgb
import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from app.config.settings import Settings
from app.models.artifact import read_artifact
from app.models.flavor import BOOSTER_FILE
from app.models.registry.embedded import BUNDLED
from app.models.registry.publish import ALIAS, publish
from benchmarks.bodies import JSON, ROW, http_request, objects
from benchmarks.contenders import MADRONE, Contender, Peer, Place, running
from benchmarks.load.plan import Plan
from benchmarks.load.plan import running as loading
from benchmarks.load.version_check import Answers, Verdict, judged
from benchmarks.pages.swap import page
from benchmarks.report import MIB, begin, context, parser, save

NAME = "swapped"
ADMIN_KEY = "swap-benchmark"
CONNECTIONS = 16
ROWS = 1000
FACTOR = 1.25
"""Ratio of the two versions' predictions."""
KEPT_BYTES = 2048
"""Larger than any answer."""
MEMORY_AFTER = (10, 50, 100, 150, 200)
"""Numbers of swaps after which memory is read; growth counts from the first."""

Span = tuple[float, float]
"""Monotonic seconds, from and to."""


def _mlflow_server(place: Place) -> list[str]:
    return [
        *(str(place.python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(place.port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{place.directory / 'mlflow.db'}"),
        *("--artifacts-destination", str(place.directory / "artifacts"), "--serve-artifacts"),
    ]


REGISTRY = Contender(
    "registry", "mlflow server", _mlflow_server, "/health", ROW, environ={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
)


@dataclass(frozen=True)
class Round:
    """Time without swaps, and the swaps after it, each from the reload's sending to its answer."""

    quiet: Span
    swaps: list[Span]


@dataclass(frozen=True)
class Memory:
    """Resident MiB after so many swaps without load."""

    swaps: int
    worker: float
    children: float


class Swapper:
    """Client that puts the other of two versions in service, again and again.

    Args:
        registry: URL of the MLflow server.
        service: URL of the service.
        versions: The two, of which the first is in service.
    """

    def __init__(self, registry: str, service: str, versions: tuple[str, str]) -> None:
        self._registry = MlflowClient(registry, registry)
        self._service = httpx.Client(base_url=service, headers={"X-API-Key": ADMIN_KEY}, timeout=120, trust_env=False)
        self._current, self._other = versions

    def swap(self) -> Span:
        """Swap once, and return the times of the reload's sending and answer."""
        self._current, self._other = self._other, self._current
        self._registry.set_registered_model_alias(NAME, ALIAS, self._current)
        sent = time.monotonic()
        response = self._service.post("/health/model/reload")
        answered = time.monotonic()
        refresh = response.json()
        if response.status_code != 200 or (refresh["outcome"], refresh["version"]) != ("swapped", self._current):
            sys.exit(f"a swap to version {self._current} was answered with {response.status_code}: {response.text}")
        return sent, answered


def write_variation(directory: Path) -> Path:
    """Copy of the bundled model with all leaf values times `FACTOR`."""
    shutil.copytree(BUNDLED / "model", directory)
    booster = lgb.Booster(model_file=directory / BOOSTER_FILE)
    for tree in booster.dump_model(num_iteration=-1)["tree_info"]:
        for leaf in range(tree["num_leaves"]):
            number = tree["tree_index"]
            booster.set_leaf_output(number, leaf, FACTOR * booster.get_leaf_output(number, leaf))
    (directory / BOOSTER_FILE).write_text(booster.model_to_string(num_iteration=-1))
    return directory


def sample_rows(count: int) -> tuple[list[dict[str, float]], NDArray[np.float64]]:
    """Rows around the model's example, and the model's predictions for them."""
    artifact = read_artifact(BUNDLED / "model")
    matrix = artifact.sample() * np.random.default_rng(0).uniform(0.95, 1.05, (count, len(artifact.features)))
    names = tuple(feature.name for feature in artifact.features)
    return objects(matrix, names), artifact.engine().predict(matrix)


def under_load(swapper: Swapper, arguments: argparse.Namespace, deadline: float) -> list[Round]:
    swapper.swap()  # the first of each kind is no measure of the others
    time.sleep(arguments.seconds / 2)
    rounds: list[Round] = []
    for number, share in enumerate(np.array_split(np.arange(arguments.swaps), arguments.rounds), start=1):
        start = time.monotonic()
        time.sleep(arguments.seconds)
        quiet, swaps = (start, time.monotonic()), list[Span]()
        for _ in share:
            if time.monotonic() > deadline:
                break
            swaps.append(swapper.swap())
            time.sleep(arguments.pause)
        if swaps:
            rounds.append(Round(quiet, swaps))
        print(f"round {number}: {len(swaps)} swaps", flush=True)
    return rounds


def without_load(swapper: Swapper, server: Peer, swaps: int, deadline: float) -> list[Memory]:
    worker = server.worker()
    memory: list[Memory] = []
    for number in range(1, swaps + 1):
        if time.monotonic() > deadline:
            break
        swapper.swap()
        if number in MEMORY_AFTER or number == swaps:
            children = sum(child.memory_info().rss for child in worker.children(recursive=True))
            memory.append(Memory(number, worker.memory_info().rss / MIB, children / MIB))
            print(f"after {number} swaps: {memory[-1].worker:.1f} MiB", flush=True)
    return memory


def overlapping(answers: Answers, spans: list[Span]) -> NDArray[np.bool_]:
    """bool[N], whether a request was under way in one of the spans."""
    held = np.zeros(len(answers.sent), dtype=np.bool_)
    for start, end in spans:
        held |= (answers.sent < end) & (answers.answered > start)
    return held


def within(answers: Answers, span: Span) -> NDArray[np.bool_]:
    """bool[N], whether a request was sent and answered in the span."""
    return (answers.sent >= span[0]) & (answers.answered <= span[1])


def figures(answers: Answers, chosen: NDArray[np.bool_], spans: list[Span]) -> dict[str, float]:
    """Figures of the chosen requests, which were under way in the spans."""
    latencies = (answers.answered - answers.sent)[chosen] * 1e3
    p50, p99 = np.quantile(latencies, [0.5, 0.99]).tolist()
    return {
        "requests_per_s": len(latencies) / sum(end - start for start, end in spans),
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": float(latencies.max()),
    }


def summarise(answers: Answers, rounds: list[Round], memory: list[Memory]) -> dict[str, Any]:
    """Figures of each round, their medians and ratio, the verdicts, and growth of memory (None where it is unknown)."""
    compared = [
        {
            "without": figures(answers, within(answers, one.quiet), [one.quiet]),
            "with": figures(answers, overlapping(answers, one.swaps), one.swaps),
        }
        for one in rounds
    ]
    durations = [end - start for one in rounds for start, end in one.swaps]
    return {
        "requests": len(answers.sent),
        "by_version": {str(key): int((answers.version == key).sum()) for key in np.unique(answers.version).tolist()},
        "verdicts": {verdict.name.lower(): int((answers.verdict == verdict).sum()) for verdict in Verdict},
        "swaps_under_load": len(durations),
        "swap_s": {"median": median(durations), "max": max(durations)},
        "medians": {
            phase: {key: median(one[phase][key] for one in compared) for key in compared[0][phase]}
            for phase in ("without", "with")
        },
        "p99_ratio": median(one["with"]["p99_ms"] / one["without"]["p99_ms"] for one in compared),
        "rounds": compared,
        "memory": [asdict(one) for one in memory],
        "growth": memory[-1].worker / memory[0].worker - 1 if len(memory) > 1 else None,
    }


def measure(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    deadline = time.monotonic() + arguments.limit
    models = BUNDLED / "model", write_variation(directory / "variation")
    rows, bundled = sample_rows(ROWS)
    varied = read_artifact(models[1]).engine().predict(np.array([list(row.values()) for row in rows]))
    with ExitStack() as stack:
        registry = stack.enter_context(running(REGISTRY, models[0], directory, arguments.cache))
        settings = Settings(mlflow_tracking_uri=registry.url)
        first, second = (publish(settings, model, name=NAME, params={}, metrics={}, tags={}) for model in models)
        environ = {
            "ENABLE_PROMETHEUS": "false", "MLFLOW_TRACKING_URI": registry.url, "MODEL_NAME": NAME, "MODEL_ALIAS": ALIAS,
            "MODEL_CACHE_TTL": "604800", "ADMIN_API_KEY": ADMIN_KEY,
        }  # fmt: skip
        server = stack.enter_context(running(MADRONE, models[0], directory, arguments.cache, **environ))
        swapper = Swapper(registry.url, server.url, (second, first))
        requests = [http_request("/predict", JSON, json.dumps(row).encode()) for row in rows]
        plan = Plan(
            port=server.port, requests=requests, connections=CONNECTIONS, seconds=2 * arguments.limit, keep=KEPT_BYTES
        )
        with loading(plan) as load:
            rounds = under_load(swapper, arguments, deadline)
            load.stop()
            record = load.record()
        memory = without_load(swapper, server, arguments.memory_swaps, deadline)
    if not rounds:
        sys.exit("the time was over before any swap")
    return summarise(judged(record, {first: bundled.tolist(), second: varied.tolist()}), rounds, memory)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--swaps", type=int, default=50, help="under load")
    options.add_argument("--rounds", type=int, default=5, help="that they are divided into")
    options.add_argument("--seconds", type=float, default=6.0, help="without a swap, in each round")
    options.add_argument("--pause", type=float, default=0.5, help="seconds between a swap and the next, under load")
    options.add_argument("--memory-swaps", type=int, default=200, help="without load")
    options.add_argument("--limit", type=float, default=600.0, help="seconds after which no swap is begun")
    arguments = begin(options)
    with tempfile.TemporaryDirectory() as directory:
        results = measure(arguments, Path(directory))
    asked = {"asked": {"swaps": arguments.swaps, "memory_swaps": arguments.memory_swaps}}
    report = context("swap", "madrone", "granian", "litestar", "lightgbm", "mlflow", "numba") | asked | results
    save("swap", report, page, arguments.reports)
    sys.exit(results["verdicts"]["right"] != results["requests"])


if __name__ == "__main__":
    main()
