"""A hostile registry behind HTTP reaches no local file, no other host, and no more memory."""

import contextlib
import gzip
import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from app.config.settings import Settings
from app.models.identity import ModelIdentity
from app.models.process.client import WorkerProcess
from app.models.refusal import ModelRefused
from app.models.registry.http import MAX_ANSWER_BYTES, check_source
from app.models.registry.source import RegistryUnreachable
from tests.models.registry.working import working
from tests.models.support import MODEL

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
HTTP = Settings(mlflow_tracking_uri="http://tracking:5000", mlflow_registry_uri="https://registry")


class Evil(ThreadingHTTPServer):
    """Speaks as much of MLflow's protocol as a look-up and a download take.

    Attributes:
        source: Where it says that the files of every version are.
        redirect: Where it sends every look-up; None where it answers.
        bomb: What it answers instead.
        listed: The file that it says a model's directory has.
        asked: Paths of all requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.source = "mlflow-artifacts:/model"
        self.redirect: str | None = None
        self.bomb: bytes | None = None
        self.listed = "endless"
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Evil  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.asked.append(path)
        version = {"name": MODEL, "version": "1", "status": "READY", "current_stage": "Production", "source": "x"}
        answers = {
            "registered-models/get": {"registered_model": {"name": MODEL}},
            "model-versions/search": {"model_versions": [version]},
            "model-versions/get": {"model_version": version},
            "model-versions/get-download-uri": {"artifact_uri": self.server.source},
            "runs/get": {"run": {"info": {"run_id": "r", "artifact_uri": "file:///etc"}, "data": {}}},
        }
        if path.startswith(API) and self.server.redirect is not None:
            self._begin(302, Location=self.server.redirect + self.path)
        elif path.startswith(API) and self.server.bomb is not None:
            self._answer(self.server.bomb, **{"Content-Encoding": "gzip"})
        elif path.startswith(API):
            self._answer(msgspec.json.encode(answers[path.removeprefix(API)]))
        elif path == ARTIFACTS:
            files = [] if "endless" in query else [{"path": self.server.listed, "is_dir": False, "file_size": 1}]
            self._answer(msgspec.json.encode({"files": files}))
        else:
            self._begin(200)
            while True:  # until nobody takes it any more
                self.wfile.write(bytes(2**16))

    def _answer(self, body: bytes, **headers: str) -> None:
        self._begin(200, **{"Content-Type": "application/json", "Content-Length": str(len(body))}, **headers)
        self.wfile.write(body)

    def _begin(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the other side has gone
            super().handle()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Evil, Evil]]:
    """A registry, and a host that it is not."""
    with Evil() as registry, Evil() as other:
        yield registry, other
        registry.shutdown()
        other.shutdown()


@pytest.fixture
def evil(servers: tuple[Evil, Evil]) -> Evil:
    registry, other = servers
    registry.source, registry.redirect, registry.bomb = "mlflow-artifacts:/model", None, None
    registry.listed = "endless"
    registry.asked.clear()
    other.asked.clear()
    return registry


@pytest.fixture(scope="module")
def worker(servers: tuple[Evil, Evil]) -> Iterator[WorkerProcess]:
    settings = Settings(
        mlflow_tracking_uri=servers[0].url, model_name=MODEL, model_max_bytes=2**20, model_lookup_timeout=60
    )
    with working(settings) as worker:
        yield worker


IDENTITY = ModelIdentity(name=MODEL, version="1")


@pytest.mark.parametrize("source", ["file:///etc", "/etc", "runs:/r/ssl", "ftp://127.0.0.1/model"])
def test_nothing_is_fetched_from_where_a_registry_may_not_send_us(
    source: str, evil: Evil, worker: WorkerProcess, tmp_path: Path
) -> None:
    evil.source = source
    with pytest.raises(ModelRefused) as caught:
        worker.fetch(IDENTITY, tmp_path)
    assert caught.value.check == "artifact"
    assert "/etc" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_host_is_not_asked(
    evil: Evil, servers: tuple[Evil, Evil], worker: WorkerProcess, tmp_path: Path
) -> None:
    for source in (f"{servers[1].url}{ARTIFACTS}/model", f"mlflow-artifacts://{servers[1].url[7:]}/model"):
        evil.source = source
        with pytest.raises(ModelRefused, match=r"^its files are on another host than the registry$"):
            worker.fetch(IDENTITY, tmp_path)
    evil.redirect = servers[1].url
    with pytest.raises(RegistryUnreachable, match=r"^a redirect to another host$"):
        worker.look()
    assert servers[1].asked == []
    evil.redirect = None
    assert worker.look().candidates[0].identity.version == "1"


def test_an_answer_that_unpacks_to_too_much_is_not_unpacked(evil: Evil, worker: WorkerProcess) -> None:
    worker.look()
    process = next(child for child in psutil.Process().children() if "app.models.process.worker" in child.cmdline())
    peak = peak_memory(process)
    zeros = 8 * MAX_ANSWER_BYTES // 2**20 * gzip.compress(bytes(2**20))
    evil.bomb = gzip.compress(b'{"registered_model": {"name": "') + zeros + gzip.compress(b'"}}')
    with pytest.raises(RegistryUnreachable, match=r"^an answer that is too large$"):
        worker.look()
    assert peak_memory(process) - peak < 4 * MAX_ANSWER_BYTES


def peak_memory(process: psutil.Process) -> int:
    """Bytes that a process has had at most."""
    (line,) = (
        line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) * 1024


def test_a_version_with_unfetchable_files_is_refused(evil: Evil, worker: WorkerProcess, tmp_path: Path) -> None:
    evil.listed = "/etc/passwd"
    with pytest.raises(ModelRefused, match=r"^its store lists a file outside the model's directory$"):
        worker.fetch(IDENTITY, tmp_path)
    evil.source = "gs://bucket/model"
    assert importlib.util.find_spec("google.cloud.storage") is None
    hint = r"is not installed here: install the gcs extra, in a checkout by uv pip install -e '\.\[gcs\]'$"
    with pytest.raises(ModelRefused, match=hint):
        worker.fetch(IDENTITY, tmp_path)


def test_a_download_without_an_end_ends(evil: Evil, worker: WorkerProcess, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"^its files have more than MODEL_MAX_BYTES = 1048576 bytes$"):
        worker.fetch(IDENTITY, tmp_path)
    assert evil.asked[-1] == f"{ARTIFACTS}/model/endless"


@pytest.mark.parametrize(
    "source",
    [
        *("s3://bucket/model", "gs://bucket/model", "r2://bucket@account.r2.cloudflarestorage.com/model"),
        *("r2://bucket@account.eu.r2.cloudflarestorage.com/m", "b2://bucket@s3.us-west-004.backblazeb2.com/model"),
        *("wasbs://container@account.blob.core.windows.net/model", "abfss://files@account.dfs.core.windows.net/model"),
        *("wasbs://$web@a.blob.core.chinacloudapi.cn/model", "abfss://files@a.dfs.core.usgovcloudapi.net/model"),
        *("mlflow-artifacts:/model", "mlflow-artifacts://tracking:5000/m"),
        *(f"{host}{ARTIFACTS}/model" for host in ("http://tracking:5000", "https://registry", "https://registry:443")),
    ],
)
def test_stores_and_the_registrys_own_host_are_places_of_files(source: str) -> None:
    check_source(source, HTTP.registry_uri, HTTP)


@pytest.mark.parametrize(
    "source",
    [
        *("", "model", "/srv/mlflow/1", "file:/srv/mlflow/1", "file://localhost/srv/mlflow/1", "FILE:///srv/mlflow/1"),
        *("ftp://tracking/model", "sftp://tracking/model", "dbfs:/model", "runs:/1/model", "models:/m/1", "odd:model"),
        *(
            "http://tracking:5001/model",
            "http://tracking/model",
            "http://registry/model",
            "https://tracking:5000/model",
        ),
        *("http://tracking:5000@elsewhere/model", "http://elsewhere\\@tracking:5000/", "http://tracking:5000\t/model"),
        *(
            "mlflow-artifacts://elsewhere/model",
            "mlflow-artifacts://tracking/model",
            "https://registry.elsewhere/model",
        ),
        *("http://tracking:5000/files", "https://registry/files", f"https://registry/files?{ARTIFACTS}"),
        *("s3://[bucket/model", "http://[tracking/model", "http://tracking\u2100/model", "http://tracking:port/model"),
        *("hdfs://nodes/model", "hdfs:/model", "viewfs://nodes/model", "s3://bucket@elsewhere/model", "s3:/model"),
        *("r2://bucket@elsewhere/model", "b2://bucket@s3.r.backblazeb2.com:81/model", "b2://bucket/model"),
        *("wasbs://files@account.elsewhere/model", "abfss://files@elsewhere/dfs.core.windows.net/model"),
        *("abfss://f@a.dfs.core.windows.net@elsewhere/m", "abfss://f@elsewhere\\.dfs.core.windows.net/model"),
        *("abfss://files@a.dfs.core.windows.net.elsewhere/m", "abfss://f@a.b.elsewhere?.dfs.core.windows.net/m"),
    ],
)
def test_all_others_are_not(source: str) -> None:
    with pytest.raises(ModelRefused, match=r"^(its files are (at|on) |the address of its files has a blank)"):
        check_source(source, HTTP.tracking_uri, HTTP)


def test_a_directory_that_is_shared_with_the_server_is_a_place_of_files(tmp_path: Path) -> None:
    shared = msgspec.structs.replace(HTTP, model_artifact_root=tmp_path / "shared")
    (tmp_path / "shared" / "1").mkdir(parents=True)
    (tmp_path / "shared" / "link").symlink_to("/etc")
    for source in ("1", ".", "a%20b", "1/../1"):
        check_source(f"{(tmp_path / 'shared').as_uri()}/{source}", HTTP.registry_uri, shared)
    for source in ("..", "../other", "link", "link/ssl", "%2e%2e/other"):
        with pytest.raises(ModelRefused):
            check_source(f"{(tmp_path / 'shared').as_uri()}/{source}", HTTP.registry_uri, shared)


def test_a_local_registry_may_name_any_path() -> None:
    check_source("file:///etc", "sqlite:///mlflow.db", Settings(mlflow_tracking_uri="sqlite:///mlflow.db"))
