"""Words of a registry reach only the operator, and its version numbers are validated."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mlflow import MlflowException

from app.config.settings import Settings
from app.models.refresh.keeper import ModelKeeper
from app.models.registry.faults import fault_kind
from app.models.registry.mlflow import Registry
from app.models.registry.source import RegistryUnreachable, VersionUnknown
from tests.models.keeping import keep
from tests.models.support import MODEL
from tests.routes.support import client_of
from tests.support import free_port

SECRET = "inner-name.corp"
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@contextmanager
def registry(answer: Callable[[str], Answer | None]) -> Iterator[str]:
    """URL of a server that gives to each path what `answer` makes of it, None being no answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if (told := answer(self.path)) is None:
                return
            status, headers, body = told
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://user:hunter2@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def houses(aliases: dict[str, str], *versions: dict[str, Any]) -> Callable[[str], Answer]:
    """A registry that has these versions of the model `houses`."""
    model = {"name": MODEL, "aliases": [{"alias": alias, "version": version} for alias, version in aliases.items()]}
    listed = [{"name": MODEL, "status": "READY", "current_stage": "Production"} | version for version in versions]

    def answer(path: str) -> Answer:
        found = {"registered_model": model} if "registered-models/get" in path else {"model_versions": listed}
        return 200, {"Content-Type": "application/json"}, msgspec.json.encode(found)

    return answer


def failure(answer: Callable[[str], Answer | None]) -> RegistryUnreachable:
    with registry(answer) as url, pytest.raises(RegistryUnreachable) as caught:
        Registry(Settings(mlflow_tracking_uri=url, model_name=MODEL)).look()
    return caught.value


JSON = {"Content-Type": "application/json"}
ANSWERS: dict[str, tuple[Answer, str]] = {
    "error": ((501, {}, SECRET.encode()), "HTTP 501"),
    "error that is asked about again": ((500, {}, SECRET.encode()), "HTTP 500"),
    "refusal": ((403, {}, SECRET.encode()), "HTTP 403"),
    "MLflow's own error": (
        (501, JSON, msgspec.json.encode({"error_code": "INTERNAL_ERROR", "message": SECRET})),
        "HTTP 500",
    ),
    "redirect": ((302, {"Location": f"http://127.0.0.1:1/{SECRET}"}, b""), "connection refused"),
    "redirect to itself": ((302, {"Location": f"/{SECRET}"}, b""), "too many redirects"),
    "a page": (
        (200, {"Content-Type": "text/html"}, f"<html>{SECRET}</html>".encode()),
        "an answer that is not MLflow's",
    ),
    "other fields": (
        (200, JSON, msgspec.json.encode({"registered_model": {"name": [SECRET]}})),
        "an answer that is not MLflow's",
    ),
}


@pytest.mark.parametrize(("answer", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_failure_is_named_by_its_kind_and_the_rest_is_detail(answer: Answer, reason: str) -> None:
    error = failure(lambda _: answer)
    assert str(error) == reason
    assert error.detail
    assert "hunter2" not in error.detail
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (socket.gaierror(-2, SECRET), "its host name is not known"),
        (ssl.SSLCertVerificationError(SECRET), "no trusted TLS connection"),
        (TimeoutError(SECRET), "no answer in time"),
        (ConnectionResetError(SECRET), "connection closed"),
        (ZeroDivisionError(SECRET), "ZeroDivisionError"),
    ],
)
def test_the_cause_of_an_error_gives_its_kind(cause: Exception, reason: str) -> None:
    error = MlflowException(SECRET)
    error.__context__ = RuntimeError(SECRET)
    error.__context__.__cause__ = cause
    assert fault_kind(error) == (reason if reason != "ZeroDivisionError" else "RuntimeError")
    assert fault_kind(cause) == reason
    assert fault_kind(MlflowException(SECRET)) == "MlflowException"


def test_refused_and_closed_connections_are_named() -> None:
    with pytest.raises(RegistryUnreachable, match=r"^connection refused$") as caught:
        Registry(Settings(mlflow_tracking_uri=f"http://user:hunter2@127.0.0.1:{free_port()}")).look()
    assert "127.0.0.1" in str(caught.value.detail)
    assert "hunter2" not in str(caught.value.detail)
    refused = f"postgresql+psycopg://user:hunter2@127.0.0.1:{free_port()}/mlflow"
    with pytest.raises(RegistryUnreachable, match=r"^connection refused$") as caught:
        Registry(Settings(mlflow_tracking_uri=refused)).look()
    assert "hunter2" not in str(caught.value.detail)

    assert str(failure(lambda _: None)) == "connection closed"


async def test_only_the_admin_reads_the_registrys_words(tmp_path: Path) -> None:
    with registry(lambda _: (501, {}, SECRET.encode())) as url:
        settings = Settings(
            mlflow_tracking_uri=url,
            data_dir=tmp_path,
            prediction_log_rows=0,
            prometheus_port=free_port(),
            admin_api_key="admin",
            model_cache_ttl=3600,
        )
        async with client_of(settings) as client:
            for key in (None, "guess", ""):
                for path in ("/health", "/health/model", "/health/detailed", "/health/ready", "/metrics"):
                    told = await client.get(path, headers={} if key is None else {"X-API-Key": key})
                    assert not [text for text in (SECRET, "127.0.0.1", "hunter2") if text in told.text]
            problems = (await client.get("/health")).json()["problems"]
            assert problems == ["no model is loaded", "model refresh: registry_unreachable: HTTP 501"]
            admin = {"X-API-Key": "admin"}
            told = (await client.get("/health/model", headers=admin)).json()["last_refresh"]
            assert (told["outcome"], told["reason"]) == ("registry_unreachable", "HTTP 501")
            assert SECRET in told["detail"]
            detailed = (await client.get("/health/detailed", headers=admin)).json()
            assert SECRET in detailed["model"]["last_refresh"]["detail"]
            reloaded = (await client.post("/health/model/reload", headers=admin)).json()
            assert SECRET in reloaded["detail"]
            assert "hunter2" not in str((told, detailed, reloaded))


async def test_the_log_has_the_registrys_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with registry(lambda _: (501, {}, SECRET.encode())) as url:
        keeper: ModelKeeper = keep(Settings(mlflow_tracking_uri=url, data_dir=tmp_path)).keeper
        await keeper.refresh()
        keeper.close()
    (record,) = (record for record in caplog.records if record.message == "model refresh")
    assert SECRET in record.__dict__["detail"]


ODD = ("21\n", " 23", "-25", "+26", "2_4", "2.0", "٣", "", "9" * 21, "v8")


def test_a_version_without_a_number_is_passed_over() -> None:
    versions = [{"version": version} for version in (*ODD, "7", "10")]
    for alias, expected in (({"champion": "21\n"}, []), ({"champion": "7"}, ["7"])):
        with registry(houses(alias, *versions)) as url:
            settings = Settings(mlflow_tracking_uri=url, model_name=MODEL)
            offer = Registry(settings).look()
            assert [candidate.identity.version for candidate in offer.candidates] == ["10", "7"]
            offer = Registry(msgspec.structs.replace(settings, model_alias="champion")).look()
            assert [candidate.identity.version for candidate in offer.candidates] == expected
            for version in ODD:
                with pytest.raises(VersionUnknown):
                    Registry(settings).version(version)


def test_a_stage_that_mlflow_does_not_have_is_none() -> None:
    with registry(houses({"champion": "7"}, {"version": "7", "current_stage": "Live\r\nX-Other: y"})) as url:
        offer = Registry(Settings(mlflow_tracking_uri=url, model_name=MODEL, model_alias="champion")).look()
    assert offer.candidates[0].identity.stage is None
