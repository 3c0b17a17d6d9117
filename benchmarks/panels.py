"""The picture of the dashboard in app/telemetry/README.md, from a real service that a real Prometheus scrapes.

    just bench panels [--seconds 100] [--output app/telemetry/panels.png]

Method: `madrone serve` with the bundled model, a Prometheus that scrapes it every second, and clients that send rows of
the California Housing data: one at a time, in batches and in bulk, with mistakes, outcomes, and in the last third so
many rows in bulk that some are refused. From half of the time on, the incomes are half as high again. Then the
dashboard that `madrone ops grafana` prints is drawn with matplotlib in its own grid, from what Prometheus answers to
its expressions. Rows of the dashboard without data are left out. Needs `prometheus` on PATH.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from app.ops.dashboard import dashboard
from app.training.dataset import Dataset, load_dataset
from benchmarks.drawing import draw
from benchmarks.report import begin, parser

PICTURE = Path("app/telemetry/panels.png")
START_TIMEOUT_S = 180
SCRAPE_S, STEP_S = 1, 2
WINDOW = "15s"
"""What $__rate_interval stands for."""

ROWS_IN_FLIGHT = 15_000
SHIFT = np.array([1.5, 1, 1, 1, 1, 1, 1, 1])
"""Factors of the features in the second half of the time."""

KEY = "panels"


class Clients:
    """Threads that send requests until they are told to stop.

    Args:
        url: The service.
        data: Rows to send.
        seconds: Time for which they send.
    """

    def __init__(self, url: str, data: Dataset, seconds: float) -> None:
        self._url, self._data = url, data
        self._began, self._seconds = time.monotonic(), seconds
        self._outcomes: list[dict[str, Any]] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=(send, pause), daemon=True)
            for send, pause in (
                *[(self._single, 0.02)] * 2, (self._batch, 0.25), (self._bulk, 1.0), (self._mistakes, 0.7),
                (self._report, 2.0), (self._flood, 0.05), (self._flood, 0.05), (self._reload, 35.0),
            )
        ]  # fmt: skip

    def run(self) -> None:
        """Send for the given time."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    @property
    def _share(self) -> float:
        """Share of the time that has passed."""
        return (time.monotonic() - self._began) / self._seconds

    def _repeat(self, send: Callable[[httpx.Client, np.random.Generator], None], pause: float) -> None:
        random = np.random.default_rng(threading.get_ident() % 2**32)
        with httpx.Client(base_url=self._url, trust_env=False, timeout=30) as client:
            while self._share < 1:
                with suppress(httpx.TransportError):
                    send(client, random)
                time.sleep(pause * random.uniform(0.5, 1.5))

    def _rows(self, random: np.random.Generator, count: int) -> tuple[list[dict[str, float]], NDArray[np.float64]]:
        """Rows as objects, and their targets."""
        chosen = random.integers(len(self._data.target), size=count)
        rows = self._data.features[chosen] * (SHIFT if self._share > 0.5 else 1.0)
        return [dict(zip(self._data.names, row, strict=True)) for row in rows.tolist()], self._data.target[chosen]

    def _single(self, client: httpx.Client, random: np.random.Generator) -> None:
        (row,), (target,) = self._rows(random, 1)
        answer = client.post("/predict", json=row)
        if answer.status_code == 200:
            self._outcomes.append({"request_id": answer.headers["x-request-id"], "actual": float(target)})

    def _batch(self, client: httpx.Client, random: np.random.Generator) -> None:
        client.post("/predict/batch", json={"predictions": self._rows(random, int(random.integers(5, 60)))[0]})

    def _bulk(self, client: httpx.Client, random: np.random.Generator) -> None:
        client.post("/predict/bulk", json={"rows": self._rows(random, 2000)[0]})

    def _mistakes(self, client: httpx.Client, random: np.random.Generator) -> None:
        row = self._rows(random, 1)[0][0]
        kind = random.integers(4)
        if kind == 0:
            row.pop("MedInc")
            client.post("/predict", json=row)
        elif kind == 1:
            client.post("/predict", content=b"{", headers={"Content-Type": "application/json"})
        elif kind == 2:
            client.post("/predict", content=b" " * 2**21, headers={"Content-Type": "application/json"})
        else:
            client.get("/predict")

    def _report(self, client: httpx.Client, _: np.random.Generator) -> None:
        """Report the outcomes of what was predicted some seconds ago."""
        known, self._outcomes = self._outcomes, []
        for start in range(0, len(known), 200):
            client.post("/outcomes", json={"outcomes": known[start : start + 200]})

    def _flood(self, client: httpx.Client, random: np.random.Generator) -> None:
        if 0.75 < self._share < 0.9:
            rows = self._rows(random, 9000)[0]
            table = "\n".join(",".join(map(str, row.values())) for row in rows)
            content = f"{','.join(self._data.names)}\n{table}\n"
            client.post("/predict/bulk", content=content, headers={"Content-Type": "text/csv"})

    def _reload(self, client: httpx.Client, _: np.random.Generator) -> None:
        client.post("/health/model/reload", headers={"X-API-Key": KEY})


@contextmanager
def running(command: list[str], url: str, directory: Path, **environ: str) -> Iterator[None]:
    """A process, once it answers a URL with 200; it ends with the context."""
    with (directory / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=os.environ | environ, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} did not start:\n{Path(log.name).read_text()}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _service(stack: ExitStack, directory: Path) -> tuple[str, int]:
    """Start the service; its URL, and its port of metrics."""
    port, metrics = _free_port(), _free_port()
    environ = {
        "PYTHONPATH": str(Path.cwd()), "API_HOST": "127.0.0.1", "API_PORT": str(port), "PROMETHEUS_PORT": str(metrics),
        "DATA_DIR": str(directory / "data"), "MODEL_CACHE_TTL": "20", "MODEL_ALIAS": "champion", "ADMIN_API_KEY": KEY,
        "MAX_ROWS_IN_FLIGHT": str(ROWS_IN_FLIGHT), "PREDICTION_LOG": "durable", "LOG_LEVEL": "WARNING",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    stack.enter_context(running([sys.executable, "-m", "app", "serve"], f"{url}/health/ready", directory, **environ))
    return url, metrics


def _prometheus(stack: ExitStack, directory: Path, target: int) -> str:
    """Start a Prometheus that scrapes a port; its URL."""
    url = f"http://127.0.0.1:{_free_port()}"
    jobs = [{"job_name": "madrone", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}]
    scrape = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"}
    # JSON is YAML as well.
    (directory / "prometheus.yml").write_text(json.dumps({"global": scrape, "scrape_configs": jobs}))
    command = [
        "prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--log.level=warn",
    ]  # fmt: skip
    stack.enter_context(running(command, f"{url}/-/ready", directory))
    return url


def main() -> None:
    made = parser(__doc__, data=True)
    made.add_argument("--seconds", type=float, default=100, help="how long requests are sent")
    made.add_argument("--output", type=Path, default=PICTURE, help="the picture")
    arguments = begin(made)
    if shutil.which("prometheus") is None:
        sys.exit("prometheus is not on PATH")
    data = load_dataset(arguments.data)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        url, metrics = _service(stack, directory)
        prometheus = _prometheus(stack, directory, metrics)
        start = time.time()
        Clients(url, data, arguments.seconds).run()
        end = start + arguments.seconds  # the last answers came later

        def query(expression: str) -> list[dict[str, Any]]:
            asked = expression.replace("$__rate_interval", WINDOW)
            for variable in ("job", "instance", "model_version"):
                asked = asked.replace(f"${variable}", ".*")
            parameters = {"query": asked, "start": start, "end": end, "step": STEP_S}
            answer = httpx.get(
                f"{prometheus}/api/v1/query_range", params=parameters, trust_env=False, timeout=60
            ).json()
            assert answer["status"] == "success", answer
            return answer["data"]["result"]

        figure = draw(json.loads(dashboard("")), query, start, end)
    figure.savefig(arguments.output, dpi=75)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
