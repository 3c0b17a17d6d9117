"""The service over TLS and over a Unix socket, to real clients, and files that it must not start with."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from app.cli import main
from app.config.settings import Settings, SettingsError
from app.serving.tls import BadTls, read_credentials
from madrone.client import AsyncClient, Client, Unavailable
from tests.certificates import Authority, pem
from tests.support import HTTP, ROOT, Server, eventually, free_port, server_environ

PASSWORD = "sesame-of-the-key"


class TlsServer(Server):
    """A service with a certificate of the authority, over the session's registry."""

    def __init__(self, data_dir: Path, directory: Path, authority: Authority, **environ: str) -> None:
        certificate, key = authority.issue("service", password=PASSWORD)
        self.grpc_port = free_port()
        self.environ = {
            "API_TLS_CERT": str(certificate), "API_TLS_KEY": str(key), "API_TLS_KEY_PASSWORD": PASSWORD,
            "GRPC_PORT": str(self.grpc_port), "SHUTDOWN_DELAY": "0", **server_environ(data_dir, directory), **environ,
        }  # fmt: skip
        super().__init__(self.environ, directory)
        ports = {"API_PORT": str(self.port), "PROMETHEUS_PORT": str(self.prometheus_port)}
        self.environ |= {"API_HOST": "127.0.0.1", **ports}
        self.url = f"https://127.0.0.1:{self.port}"

    def handshake(self, context: ssl.SSLContext) -> str | None:
        """Version of TLS that a client gets."""
        plain = socket.create_connection(("127.0.0.1", self.port), 20)
        with plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
            return secure.version()


def probe(environ: dict[str, str]) -> int:
    """Exit status of the image's health check."""
    ran = subprocess.run([sys.executable, "-m", "app.probe"], cwd=ROOT, env=os.environ | environ, check=False)
    return ran.returncode


def predict(*arguments: str, **environ: str) -> Any:
    return CliRunner().invoke(main, ["predict", *arguments], env=environ)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def served(authority: Authority, registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    server = TlsServer(registry_dir, tmp_path_factory.mktemp("tls"), authority)
    server.wait_ready()
    yield server
    server.kill()


def test_clients_that_trust_the_authority_are_answered(
    served: TlsServer, authority: Authority, example: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Client(served.url, verify=authority.file) as client:
        answer = client.predict(example)

    async def ask() -> float:
        async with AsyncClient(served.url, verify=str(authority.file)) as client:
            return (await client.predict(example)).prediction

    assert asyncio.run(ask()) == answer.prediction
    # The command trusts the service's own certificate, or an authority that it is given.
    for done in (predict(**served.environ), predict("--url", served.url, "--ca", str(authority.file))):
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout.startswith(f"POST {served.url}/predict\n")
    assert probe(served.environ) == 0
    assert probe(served.environ | {"API_PORT": str(free_port())}) == 1
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    with grpc.secure_channel(f"localhost:{served.grpc_port}", credentials) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=20, wait_for_ready=True) == b"\x08\x01"


def test_clients_that_trust_another_authority_or_speak_without_tls_get_nothing(
    served: TlsServer, example: dict[str, float], tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    with Client(served.url, verify=other.file, retries=0) as client, pytest.raises(Unavailable, match="CERTIFICATE_V"):
        client.predict(example)
    done = predict("--url", served.url, "--ca", str(other.file))
    assert (done.exit_code, "CERTIFICATE_VERIFY_FAILED" in done.stderr) == (1, True)
    with pytest.raises(httpx.TransportError):
        HTTP.get(served.url.replace("https:", "http:"))
    with grpc.insecure_channel(f"localhost:{served.grpc_port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=5)
    assert served.status("/health/ready") == 200


def test_old_versions_of_tls_and_silent_clients_disturb_nobody(served: TlsServer, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.file)
    with ExitStack() as silent:
        for index in range(200):
            connection = silent.enter_context(socket.create_connection(("127.0.0.1", served.port), 20))
            connection.sendall(b"\x16\x03\x01\x02"[: index % 5])  # nothing, or the beginning of a handshake
        assert served.handshake(context) == "TLSv1.3"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert served.handshake(context) == "TLSv1.2"
        assert served.status("/health/ready") == 200
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        served.handshake(context)


@pytest.mark.slow
def test_a_worker_that_is_killed_comes_back_though_the_files_are_being_renewed(
    authority: Authority, registry_dir: Path, tmp_path: Path
) -> None:
    server = TlsServer(registry_dir, tmp_path, authority, GRPC_PORT="")
    try:
        server.wait_ready()
        Path(server.environ["API_TLS_KEY"]).write_text("half a key")
        (worker,) = psutil.Process(server.popen.pid).children()
        worker.kill()
        eventually(lambda: worker.is_running() is False or worker.status() == psutil.STATUS_ZOMBIE)
        server.wait_ready()
        assert server.terminate() == 0
    finally:
        server.kill()


@pytest.mark.slow
def test_clients_must_show_a_certificate_where_an_authority_for_them_is_set(
    authority: Authority, registry_dir: Path, example: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = TlsServer(registry_dir, tmp_path, authority, API_TLS_CLIENT_CA=str(authority.file))
    certificate, key = authority.issue("client", client=True)
    strangers = Authority(tmp_path, "strangers").issue("stranger", client=True)
    own_as_client = authority.issue("server-only")

    def context(*files: Path) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=authority.file)
        if files:
            made.load_cert_chain(*files)
        return made

    try:
        with Client(server.url, verify=context(certificate, key), retries=0) as client:
            eventually(lambda: _is_ready(client), process=server)
            assert client.predict(example).version
        for files in ((), strangers, own_as_client):
            with Client(server.url, verify=context(*files), retries=0) as refused, pytest.raises(Unavailable):
                refused.predict(example)
        assert predict(**server.environ).exit_code == 1
        (tmp_path / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        assert predict("--cert", str(tmp_path / "both.pem"), **server.environ).exit_code == 0
        assert probe(server.environ) == 0
        root = authority.file.read_bytes()
        with_key = grpc.ssl_channel_credentials(root, key.read_bytes(), certificate.read_bytes())
        for credentials, answered in ((with_key, True), (grpc.ssl_channel_credentials(root), False)):
            with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
                live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                if answered:
                    assert live(b"", timeout=20, wait_for_ready=True) == b"\x08\x01"
                else:
                    with pytest.raises(grpc.RpcError):
                        live(b"", timeout=5)
    finally:
        server.kill()


def _is_ready(client: Client) -> bool:
    try:
        return client.ready()
    except Unavailable:
        return False


@pytest.mark.slow
def test_a_unix_socket_takes_the_place_of_the_port(
    serve: Callable[..., Server], example: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "api.sock"
    environ = {"API_UNIX_SOCKET": str(path)}
    server = serve(**environ, API_UNIX_SOCKET_MODE="600", SHUTDOWN_DELAY="0")
    eventually(lambda: probe(environ) == 0, process=server)
    with Client(f"unix:{path}", retries=0) as client:
        assert client.predict(example).version
        assert client.url == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        assert server.status("/health") == 0
        assert predict(**environ).exit_code == 0
        assert probe(environ) == 0
        # A second service does not take it, and one that is killed leaves it to the next.
        second = serve(**environ)
        eventually(lambda: second.popen.poll() is not None)
        assert second.popen.returncode == 1
        assert f"Cannot listen on API_UNIX_SOCKET {path}: another process does." in second.log()
        assert client.ready()
    server.kill()
    assert path.exists()
    assert probe(environ) == 1
    server.start()
    eventually(lambda: probe(environ) == 0, process=server)
    assert server.terminate() == 0
    assert not path.exists()


def refused(**settings: Any) -> str:
    with pytest.raises(BadTls) as caught:
        read_credentials(Settings(**settings))
    return str(caught.value)


def test_files_that_cannot_be_served_with_are_named_by_their_setting(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("good")
    _, locked = authority.issue("locked", password=PASSWORD)
    (tmp_path / "words").write_text("hunter2")
    (tmp_path / "large").write_bytes(b"-" * 2**20 + b"-")
    for path, said in (
        (tmp_path / "none", "must name a file that can be read: No such file or directory"),
        (tmp_path, "must name a file that can be read: Is a directory"),
        (tmp_path / "large", "must name a file of at most 1048576 bytes"),
    ):
        assert refused(api_tls_cert=path, api_tls_key=key) == f"API_TLS_CERT: {said}"
        assert refused(api_tls_cert=certificate, api_tls_key=path) == f"API_TLS_KEY: {said}"
        assert (
            refused(api_tls_cert=certificate, api_tls_key=key, api_tls_client_ca=path) == f"API_TLS_CLIENT_CA: {said}"
        )
    no_certificates = "must name a file of certificates in PEM"
    assert refused(api_tls_cert=tmp_path / "words", api_tls_key=key) == f"API_TLS_CERT: {no_certificates}"
    assert refused(api_tls_cert=key, api_tls_key=key) == f"API_TLS_CERT: {no_certificates}"
    both = {"api_tls_cert": certificate, "api_tls_key": key}
    assert refused(**both, api_tls_client_ca=key) == f"API_TLS_CLIENT_CA: {no_certificates}"
    no_key = "API_TLS_KEY: must name a file with a private key in PEM"
    assert refused(api_tls_cert=certificate, api_tls_key=tmp_path / "words") == no_key
    assert refused(api_tls_cert=certificate, api_tls_key=certificate) == no_key
    locked_key = {"api_tls_cert": certificate, "api_tls_key": locked}
    assert refused(**locked_key).startswith("API_TLS_KEY_PASSWORD: must be set, since")
    assert refused(**both, api_tls_key_password="x").startswith("API_TLS_KEY_PASSWORD: must not be set, since")
    assert (
        refused(**locked_key, api_tls_key_password="hunter2")
        == f"{no_key}, whose password is that of API_TLS_KEY_PASSWORD"
    )
    assert "is another one" in refused(**locked_key, api_tls_key_password=PASSWORD)


def test_only_keys_that_the_server_takes_are_served_with(authority: Authority, tmp_path: Path) -> None:
    for key, taken in (
        (ec.generate_private_key(ec.SECP384R1()), True),
        (ed25519.Ed25519PrivateKey.generate(), True),
        (ec.generate_private_key(ec.SECP521R1()), False),
        (ec.generate_private_key(ec.SECP256K1()), False),
        (rsa.generate_private_key(65537, 1024), False),
        (rsa.generate_private_key(65537, 2048), True),
    ):
        certificate, path = authority.issue("keys", key=key)
        settings = {"api_tls_cert": certificate, "api_tls_key": path}
        if taken:
            credentials = read_credentials(Settings(**settings))
            assert credentials is not None
            assert (credentials.key, credentials.client_ca, credentials.valid) == (pem(key), None, True)
        else:
            assert refused(**settings).startswith("API_TLS_KEY: must be a key of RSA with 2048 to 8192 bits, of ECDSA")
    assert read_credentials(Settings()) is None


def test_an_expired_certificate_is_served_with_a_warning(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    from app.commands.listening import credentials_of

    certificate, key = authority.issue("expired", days=-1)
    credentials = credentials_of(Settings(api_tls_cert=certificate, api_tls_key=key))
    assert credentials is not None
    assert not credentials.valid
    assert [record.message for record in caplog.records] == ["the certificate of API_TLS_CERT is not valid now"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"API_TLS_CERT": "c"}, "API_TLS_KEY: must be set together with API_TLS_CERT"),
        ({"API_TLS_KEY": "k"}, "API_TLS_KEY: must be set together with API_TLS_CERT"),
        ({"API_TLS_CLIENT_CA": "a"}, "API_TLS_CLIENT_CA: must be set together with API_TLS_CERT"),
        ({"API_TLS_KEY_PASSWORD": "p"}, "API_TLS_KEY_PASSWORD: must be set together with API_TLS_CERT"),
        (
            {"API_TLS_CERT": "c", "API_TLS_KEY": "k", "API_UNIX_SOCKET": "s"},
            "API_TLS_CERT: must not be set together with API_UNIX_SOCKET, which no other machine reaches",
        ),
        ({"API_UNIX_SOCKET_MODE": "rw"}, "API_UNIX_SOCKET_MODE: must be three octal digits, got 'rw'"),
        ({"API_UNIX_SOCKET_MODE": "680"}, "API_UNIX_SOCKET_MODE: must be three octal digits, got '680'"),
    ],
)
def test_settings_that_do_not_go_together_are_named(given: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(given)
    assert str(caught.value) == problem


def test_a_bad_place_for_the_socket_or_a_bad_certificate_ends_the_start_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for given, said in (
        ({"API_UNIX_SOCKET": str(tmp_path / "none" / "s")}, "API_UNIX_SOCKET: must be in a directory that is there"),
        ({"API_UNIX_SOCKET": str(tmp_path / "file")}, "API_UNIX_SOCKET: must be no file of another kind, and is one"),
        ({"API_UNIX_SOCKET": str(tmp_path / ("x" * 100))}, "API_UNIX_SOCKET: must be a path of at most 107 bytes"),
        ({"API_TLS_CERT": "none", "API_TLS_KEY": "none"}, "API_TLS_CERT: must name a file that can be read: No such "),
    ):
        done = CliRunner().invoke(main, ["serve"], env={"DATA_DIR": str(tmp_path / "data"), **given})
        assert done.exit_code == 2
        first, second = done.stderr.splitlines()
        assert first == "Madrone cannot start because some settings are not valid:"
        assert second.startswith(said)
    assert not (tmp_path / "data").exists()
