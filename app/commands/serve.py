"""`madrone serve`: the server process."""

import os
import resource
import signal
import sys
from pathlib import Path

import click

from app.commands.common import check_openmp, keep_kernels, model_address, settings_of_environment, stop
from app.commands.listening import check_places, credentials_of, warn_of_openness

HEAD_BYTES = 128 * 1024
"""Approximate limit of a request head: the server reads a little more before it answers 431. Also the size of the
largest piece that a body arrives in."""

MOST_FILES = 10_000
OTHER_FILES = 200
"""Open files at a time, and the part of them reserved for other things than clients' connections."""


@click.command(short_help="Serve the model over HTTP.")
@click.option("--model", callback=model_address, help="File, directory or address of the model. Replaces MODEL_PATH.")
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
    settings = settings_of_environment()
    credentials = credentials_of(settings)
    check_places(settings)
    check_openmp()
    keep_kernels(settings)

    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from app.supervisor import DrainingServer
    from app.telemetry.logging import logging_config
    from app.workers.place import VARIABLE, make_place, remove_place

    package = Path(__file__).parent.parent
    level = settings.effective_log_level
    server = DrainingServer(
        "app.main:serve_app",
        settings=settings,
        address=settings.api_host,
        port=settings.api_port,
        uds=settings.api_unix_socket,
        uds_permissions=int(settings.api_unix_socket_mode, 8),
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        websockets=False,
        # HTTP/2 has no limit on the time until a connection's request head, and pings keep an idle one open.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=settings.idle_timeout * 1000, max_buffer_size=HEAD_BYTES),
        log_level=LogLevels(level.lower()),
        log_dictconfig=logging_config(level),
        workers=settings.api_workers,
        backpressure=_most_connections(),
        workers_kill_timeout=settings.shutdown_grace,
        respawn_failed_workers=True,
        reload=reload,
        reload_ignore_worker_failure=True,  # a file with an error in it is mended by the next change
        reload_paths=[package, package.parent / "kernels"],
    )
    if credentials is not None:
        server.serve_tls(credentials)
    warn_of_openness(settings)  # here, because the worker may start more than once
    os.environ.pop(VARIABLE, None)
    if settings.api_workers == 1:
        server.serve()
        return
    try:
        place = make_place()
    except OSError as error:
        stop(f"API_WORKERS: the workers have no directory to meet in: {error.strerror or error}. Set TMPDIR to one.")
    os.environ[VARIABLE] = str(place)
    try:
        server.serve()
    finally:
        remove_place(place)


def _most_connections() -> int:
    """Raise the limit of open files, and return the number of connections that can be open at a time.

    A further connection, even a health check's, waits until another one is closed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(OTHER_FILES, files - OTHER_FILES)
