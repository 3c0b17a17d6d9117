"""Asks the service of this environment whether it is ready: the health check of the image.

    python -m app.probe

The exit status is 0 if it is. Only the standard library is imported, since this runs every few seconds. With
API_TLS_CLIENT_CA a probe has no certificate to show, so the metrics tell the status.
"""

import os
import re
import socket
import ssl
import sys

TIMEOUT_S = 2.0
STATUS = re.compile(rb"^\w*service_status ([0-9.]+)", re.MULTILINE)


def ready() -> bool:
    """Whether the service answers predictions now."""
    if _set("API_TLS_CLIENT_CA"):
        port = int(_set("PROMETHEUS_PORT") or 8001)
        status = STATUS.search(_get(_connected(port), "/metrics"))
        return status is not None and float(status[1]) < 2
    if path := _set("API_UNIX_SOCKET"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        connection.connect(path)
    else:
        connection = _connected(int(_set("API_PORT") or 8000))
    if _set("API_TLS_CERT"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing secret is said, to this machine
        connection = context.wrap_socket(connection)
    return _get(connection, "/health/ready").split(b"\r\n", 1)[0].split(b" ")[1:2] == [b"200"]


def _set(name: str) -> str:
    return os.environ.get(name, "").strip()


def _connected(port: int) -> socket.socket:
    host = _set("API_HOST")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return socket.create_connection((host, port), TIMEOUT_S)


def _get(connection: socket.socket, path: str) -> bytes:
    with connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        pieces: list[bytes] = []
        while piece := connection.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)


if __name__ == "__main__":
    try:
        sys.exit(0 if ready() else 1)
    except (OSError, ValueError) as error:
        sys.exit(f"not ready: {error}")
