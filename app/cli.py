"""The `madrone` command. Heavy imports are inside the commands, so that `--help` and bad settings answer at once."""

import contextlib
import ctypes
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from dotenv import load_dotenv

from app import __version__
from app.address import AddressError, parse_address
from app.allowed import settings_table
from app.contradictions import OF_A_REGISTRY, OF_A_RUN
from app.models.convert.options import convert_options
from app.settings import Settings, SettingsError
from kernels.cache import cache_kernels

BAD_USAGE = 2
HEAD_BYTES = 128 * 1024
"""Approximate limit of a request head: the server reads a little more before it answers 431. Also the size of the
largest piece that a body arrives in."""

MOST_FILES = 10_000
OTHER_FILES = 200
"""Open files at a time, and the part of them reserved for other things than clients' connections."""

OPENMP_LIBRARY = "libgomp.so.1"

log = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="madrone", message="%(prog)s %(version)s")
def main() -> None:
    """Serve LightGBM models from an MLflow Model Registry."""
    # Loaded into the environment, because MLflow and clients of clouds read variables of the .env file too.
    load_dotenv(Path(".env"))


def _address(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The address of a model, given to a command; one that is none is bad usage."""
    try:
        return None if value is None else parse_address(value).text
    except AddressError as error:
        raise click.BadParameter(f"{error}.", param=parameter) from error


@main.command()
@click.option("--model", callback=_address, help="File, directory or address of the model. Replaces MODEL_PATH.")
@click.option("--host", help="Address to listen on. Replaces API_HOST.")
@click.option("--port", help="Port to listen on. Replaces API_PORT.")
@click.option("--debug", is_flag=True, help="Serve /docs and /redoc, and log at level DEBUG, like API_DEBUG=true.")
@click.option("--reload", is_flag=True, help="Restart when the code changes, for development.")
def serve(model: str | None, host: str | None, port: str | None, debug: bool, reload: bool) -> None:
    """Serve the model over HTTP until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server handles it
    debugging = "true" if debug else None
    for name, value in (("MODEL_PATH", model), ("API_HOST", host), ("API_PORT", port), ("API_DEBUG", debugging)):
        if value is not None:
            os.environ[name] = value
    settings = _settings()
    _check_ports(settings)
    _check_openmp()
    _cache_kernels(settings)

    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from app.supervisor import DrainingServer
    from app.telemetry.logging import logging_config

    package = Path(__file__).parent
    level = settings.effective_log_level
    server = DrainingServer(
        "app.main:serve_app",
        delay=settings.shutdown_delay,
        factory=True,
        address=settings.api_host,
        port=settings.api_port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        websockets=False,
        http=HTTPModes.http1,  # bounds the time until a connection's first request head; HTTP/2 does not
        http1_settings=HTTP1Settings(header_read_timeout=settings.idle_timeout * 1000, max_buffer_size=HEAD_BYTES),
        log_level=LogLevels(level.lower()),
        log_dictconfig=logging_config(level),
        backpressure=_most_connections(),
        workers_kill_timeout=settings.shutdown_grace,
        respawn_failed_workers=True,
        reload=reload,
        reload_paths=[package, package.parent / "kernels"],
    )
    # Logged here, because the worker may start more than once.
    if settings.api_key is None and not _is_loopback(settings.api_host):
        log.warning(
            "API_KEY is not set: everybody who can reach API_HOST %s, API_PORT %s gets predictions",
            settings.api_host,
            settings.api_port,
        )
    server.serve()


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address, or every address of a host name."""
    try:
        found = {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def _most_connections() -> int:
    """Raise the limit of open files, and return the number of connections that can be open at a time.

    A further connection, even a health check's, waits until another one is closed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(OTHER_FILES, files - OTHER_FILES)


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="CSV file with the columns of California Housing. Default: the shared copy, or a download.",
)
@click.option(
    "--recipe",
    type=click.Choice(["full", "stateless"]),
    default="full",
    show_default=True,
    help="full stores the rows that the model is fitted on, and compares others with them; stateless stores none.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Directory to write model, card and provenance to; must be empty or new.",
)
@click.option("--register/--no-register", default=True, help="Register the model in MLflow, or not.")
def train(data: Path | None, recipe: str, output: Path | None, register: bool) -> None:
    """Train the California Housing model and register it.

    The new version gets the alias champion and the stage Production.
    """
    settings = _settings()
    _check_openmp()
    _cache_kernels(settings)

    from app.models.registry.source import RegistrySchema
    from app.training.california import RECIPES
    from app.training.command import train_and_register
    from app.training.dataset import DatasetError, load_dataset

    try:
        train_and_register(settings, load_dataset(data), RECIPES[recipe], output=output, register=register)
    except (DatasetError, FileExistsError, RegistrySchema) as error:
        _stop(str(error))


@main.command()
@convert_options
def convert(**options: Any) -> None:
    """Convert a model that is a Python object into one that can be served.

    Loads the model, which runs its code, finds the LightGBM booster in it, folds the steps of a pipeline into the
    booster's trees, and compares the predictions.
    """
    settings = _settings()
    _check_openmp()

    from app.models.convert.command import run

    if (problem := run(settings, **options)) is not None:
        _stop(problem)


@main.command()
@click.option("--url", help="URL of the service. Default: from API_HOST and API_PORT.")
def predict(url: str | None) -> None:
    """Send an example row to a running service.

    Prints the row, which is the model's own example, and the answer.
    """
    import httpx
    from rich.console import Console

    settings = _settings()
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
    base = (url or f"http://{host}:{settings.api_port}").rstrip("/")
    headers = {"X-API-Key": settings.api_key} if settings.api_key else {}
    console = Console()
    try:
        with httpx.Client(base_url=base, headers=headers, timeout=settings.request_timeout, trust_env=False) as client:
            example: Any = _checked(client.get("/predict/model/info")).json()["example"]
            if example is None:
                _stop("The model has no example row to send.")
            console.print(f"POST {base}/predict")
            console.print_json(data=example)
            console.print_json(_checked(client.post("/predict", json=example)).text)
    except httpx.TransportError as error:
        _stop(f"No answer from {base}: {error}. Is the service running? `madrone serve` starts it.")


@main.command()
@click.argument("model", callback=_address)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def check(model: str, as_json: bool) -> None:
    """Say whether MODEL can be served, why not, and what it takes and gives.

    MODEL is a file, a directory or an address, as for MODEL_PATH. The exit status is 0 if it can be served, 1 if not.
    """
    has_run = parse_address(model).kind in ("run", "registered")
    unused = {*OF_A_REGISTRY, "MODEL_NAME", *(() if has_run else OF_A_RUN)}
    environ = {name: value for name, value in os.environ.items() if name not in unused}
    settings = _settings(environ | {"MODEL_PATH": model})
    _check_openmp()
    _cache_kernels(settings)

    import msgspec

    from app.models.registry.process import WorkerProcess
    from app.models.verdict import describe_verdict, judge_model

    source = WorkerProcess(msgspec.structs.replace(settings, log_level="ERROR", api_debug=False))
    try:
        verdict = judge_model(settings, source)
    finally:
        source.close()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(verdict), indent=2))
    else:
        click.echo(describe_verdict(verdict, model))
    sys.exit(0 if verdict.servable else 1)


@main.command()
def settings() -> None:
    """Print all settings as a Markdown table."""
    click.echo(settings_table(Settings))


def _check_openmp() -> None:
    """Stop with the name of the package that slim Linux systems lack; LightGBM's import would show a traceback."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(OPENMP_LIBRARY)
        except OSError:
            _stop(f"LightGBM needs {OPENMP_LIBRARY}, which is not installed. On Debian: apt-get install libgomp1.")


def _cache_kernels(settings: Settings) -> None:
    """Keep compiled kernels in DATA_DIR, which is created here so that only its owner can read it."""
    with contextlib.suppress(OSError):  # a later write reports it
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    cache_kernels(settings.data_dir / "kernels")


def _check_ports(settings: Settings) -> None:
    """Stop with the settings to change if a port is taken; Granian would show a traceback."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    for name, port in (("API_PORT", settings.api_port), ("GRPC_PORT", settings.grpc_port)):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                if port is not None:
                    probe.bind((settings.api_host, port))
            except OSError as error:
                _stop(f"Cannot listen on API_HOST {settings.api_host}, {name} {port}: {error.strerror}.")


def _checked(response: Any) -> Any:
    if response.status_code != 200:
        _stop(f"{response.request.url.path} answered {response.status_code}: {response.text}")
    return response


def _settings(environ: Mapping[str, str] = os.environ) -> Settings:
    try:
        return Settings.from_environ(environ)
    except SettingsError as error:
        click.echo(f"Madrone cannot start because some settings are not valid:\n{error}", err=True)
        sys.exit(BAD_USAGE)


def _stop(message: str) -> None:
    click.echo(message, err=True)
    sys.exit(1)
