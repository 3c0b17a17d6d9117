"""Checks of what `madrone serve` listens on, before it does: ports, Unix socket, certificate."""

import ipaddress
import logging
import os
import socket
import stat
from pathlib import Path

from app.commands.common import refuse_settings, stop
from app.config.settings import Settings
from app.serving.tls import BadTls, Credentials, read_credentials

LONGEST_PATH = 107
"""Bytes of a Unix socket's path (unix(7), sun_path)."""

log = logging.getLogger(__name__)


def credentials_of(settings: Settings) -> Credentials | None:
    """What TLS is served with, if it is. Bad files end the command, as bad settings do."""
    try:
        credentials = read_credentials(settings)
    except BadTls as error:
        refuse_settings(str(error))
    if credentials is not None and not credentials.valid:
        log.warning("the certificate of API_TLS_CERT is not valid now", extra={"expires": str(credentials.expires)})
    return credentials


def check_places(settings: Settings) -> None:
    """Stop with the settings to change if a port or the Unix socket is taken; Granian would show a traceback."""
    ports = {"API_PORT": settings.api_port, "GRPC_PORT": settings.grpc_port}
    if settings.api_unix_socket is not None:
        _check_socket(settings.api_unix_socket)
        del ports["API_PORT"]
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    for name, port in ports.items():
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                if port is not None:
                    probe.bind((settings.api_host, port))
            except OSError as error:
                stop(f"Cannot listen on API_HOST {settings.api_host}, {name} {port}: {error.strerror}.")


def warn_of_openness(settings: Settings) -> None:
    """Log a warning if other machines get predictions and no key is needed."""
    if settings.api_keys or settings.api_unix_socket is not None or settings.api_tls_client_ca is not None:
        return
    if not _is_loopback(settings.api_host):
        log.warning(
            "API_KEY is not set: everybody who can reach API_HOST %s, API_PORT %s gets predictions",
            settings.api_host,
            settings.api_port,
        )


def _check_socket(path: Path) -> None:
    """Remove a socket that nobody listens on, which a killed service leaves; stop if somebody does."""
    if len(os.fsencode(path.resolve())) > LONGEST_PATH:
        refuse_settings(f"API_UNIX_SOCKET: must be a path of at most {LONGEST_PATH} bytes")
    try:
        if not path.parent.is_dir():
            refuse_settings("API_UNIX_SOCKET: must be in a directory that is there")
        if not path.exists():
            return
        if not stat.S_ISSOCK(path.stat().st_mode):
            refuse_settings("API_UNIX_SOCKET: must be no file of another kind, and is one")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError as error:
        stop(f"Cannot listen on API_UNIX_SOCKET {path}: {error.strerror or 'in use'}.")
    else:
        stop(f"Cannot listen on API_UNIX_SOCKET {path}: another process does.")


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address, or every address of a host name."""
    try:
        found = {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)
