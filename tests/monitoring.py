"""A real Prometheus that scrapes what a test serves."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import HTTP, eventually, free_port

START_TIMEOUT_S = 60


class Prometheus:
    """A `prometheus` process; `close` ends it.

    Args:
        directory: Where its configuration and data are.
        ports: Ports of this machine whose /metrics it scrapes, as the job `madrone`.
        rules: Files of rules.
        interval: Time between scrapes, and that each may take, as Prometheus writes it. A busy machine needs a second.

    Attributes:
        url: Its address.
    """

    def __init__(self, directory: Path, ports: Sequence[int], rules: Sequence[Path] = (), interval: str = "1s") -> None:
        if shutil.which("prometheus") is None:
            pytest.skip("prometheus is not on PATH")
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "prometheus.log"
        configuration = directory / "prometheus.yml"
        # JSON is YAML as well.
        configuration.write_text(
            json.dumps(
                {
                    "global": {
                        "scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "200ms",
                    },
                    "rule_files": [str(path.resolve()) for path in rules],
                    "scrape_configs": [
                        {
                            "job_name": "madrone",
                            "static_configs": [{"targets": [f"127.0.0.1:{scraped}" for scraped in ports]}],
                        }
                    ],
                }
            )
        )  # fmt: skip
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                [
                    "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn",
                ],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait_ready(self) -> "Prometheus":
        eventually(self._is_ready, START_TIMEOUT_S)
        return self

    def _is_ready(self) -> bool:
        assert self.popen.poll() is None, self._log.read_text()
        try:
            return HTTP.get(f"{self.url}/-/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of its API, such as of `query` or `rules`."""
        answer = HTTP.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that an expression gives now."""
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=expression)["result"]]

    def value(self, expression: str) -> float | None:
        """Value of an expression that gives one series; None while it gives none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def up(self) -> dict[str, str]:
        """Health of each target that was scraped, by its address; the error where there is one."""
        targets = self.get("targets")["activeTargets"]
        return {one["labels"]["instance"]: one["lastError"] or one["health"] for one in targets}

    def firing(self) -> dict[str, dict[str, str]]:
        """Annotations of the alerts that fire, by name."""
        alerts = self.get("alerts")["alerts"]
        return {one["labels"]["alertname"]: one["annotations"] for one in alerts if one["state"] == "firing"}

    def close(self) -> None:
        """End the process."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
