"""A `madrone serve` process as its client sees it, while something behind it is wrong."""

import threading
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.shelf import ALIAS, ROW
from tests.support import HTTP, Server, eventually

KEY = "key-of-the-tests"
PAUSE_S = 0.01
"""Between two requests of a sender: other processes of this machine have something to do meanwhile."""


class Watched(Server):
    """A server that looks into its registry every second, for the alias `champion`.

    Args:
        directory: Its working directory, with DATA_DIR in it.
        registry: The tracking server's URI.
        name: The registered model.
        environ: Further settings.
    """

    def __init__(self, directory: Path, registry: str, name: str, **environ: str | None) -> None:
        self.data_dir = directory / "data"
        super().__init__(
            {
                "DATA_DIR": str(self.data_dir),
                "MLFLOW_TRACKING_URI": registry,
                "MODEL_NAME": name,
                "MODEL_ALIAS": ALIAS,
                "MODEL_CACHE_TTL": "1",
                "ADMIN_API_KEY": KEY,
                **environ,
            },
            directory,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def wait_ready(self) -> Self:
        super().wait_ready()
        return self

    def model(self) -> dict[str, Any]:
        """What /health/model says."""
        return HTTP.get(f"{self.url}/health/model", timeout=20).json()

    def becomes(self, **expected: Any) -> dict[str, Any]:
        """Wait until /health/model says so; a key `last_refresh__outcome` is that of an object in it."""
        said: dict[str, Any] = {}

        def holds() -> bool:
            said.clear()
            try:
                said.update(self.model())
            except httpx.TransportError:
                return False
            return all(_at(said, key) == value for key, value in expected.items())

        try:
            eventually(holds, process=self)
        except pytest.fail.Exception:
            pytest.fail(f"never was {expected}, at last {said}\n{self.log()[-6000:]}")
        return said

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample at /metrics, whatever its model's name if that is not given; None where there is none."""
        text = HTTP.get(f"{self.url}/metrics", timeout=20).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                told = {key: value for key, value in sample.labels.items() if key in labels or key != "model_name"}
                if sample.name == name and told == labels:
                    return sample.value
        return None

    def count(self, name: str, **labels: str) -> float:
        """A counter, 0 where it was never used."""
        return self.metric(name, **labels) or 0.0

    def reload(self, key: str | None = KEY, **order: str | None) -> httpx.Response:
        """Order a look, or, with `version`, a pin."""
        headers = {} if key is None else {"X-API-Key": key}
        url = f"{self.url}/health/model/reload"
        return HTTP.post(url, headers=headers, json=order or None, timeout=40)


class Answer(NamedTuple):
    """What came of one request; status 0 means that the connection broke."""

    status: int
    version: str | None
    prediction: float | None
    headers: dict[str, str]


class Addressed(Protocol):
    """What a sender can post to."""

    url: str


class Sender:
    """Posts a row again and again over one connection, from a thread, while its context lasts."""

    def __init__(self, server: Addressed) -> None:
        self.answers: list[Answer] = []
        self._url = server.url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, name="sender")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def goes_on(self, answers: int = 20) -> None:
        """Wait for that many answers to requests that were sent from now on."""
        enough = len(self.answers) + 1 + answers
        eventually(lambda: len(self.answers) >= enough)

    def versions(self, predictions: dict[str, float]) -> list[str]:
        """The versions that answered, as they followed each other; every answer must be a whole one of its version."""
        assert self.answers
        assert {answer.status for answer in self.answers} == {200}
        wrong = [answer for answer in self.answers if answer.prediction != predictions[str(answer.version)]]
        assert wrong == []
        versions = [str(answer.version) for answer in self.answers]
        return [version for index, version in enumerate(versions) if index == 0 or versions[index - 1] != version]

    def _send(self) -> None:
        limits = httpx.Limits(max_connections=1)
        with httpx.Client(base_url=self._url, limits=limits, trust_env=False, verify=False, timeout=20) as client:
            while not self._ended.wait(PAUSE_S):
                try:
                    response = client.post("/predict", json=ROW)
                    body = response.json()
                except (httpx.HTTPError, ValueError):
                    self.answers.append(Answer(0, None, None, {}))
                    continue
                version, prediction = body.get("model_version"), body.get("prediction")
                self.answers.append(Answer(response.status_code, version, prediction, dict(response.headers)))


def _at(said: Any, path: str) -> Any:
    for key in path.split("__"):
        if isinstance(said, list):
            said = said[int(key)] if int(key) < len(said) else None
        else:
            said = None if said is None else said[key]
    return said
