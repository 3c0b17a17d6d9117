"""Faults of a registry, named so that any caller may read it: by kind, or by HTTP status.

Messages of MLflow and its libraries repeat words, hosts, paths and redirects of the registry.
"""

import re
import socket
import ssl
from collections.abc import Iterator

MAX_CAUSES = 20

STATUS = re.compile(r"(?:failed with error code|too many) ([1-5][0-9]{2})\b")
"""HTTP status in messages of MLflow and urllib3."""

KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused"),
    (socket.gaierror, "its host name is not known"),
    (ssl.SSLError, "no trusted TLS connection"),
    (TimeoutError, "no answer in time"),
    (ConnectionError, "connection closed"),
)

NAMES = {
    "ConnectTimeout": "no answer in time",
    "ConnectTimeoutError": "no answer in time",
    "ReadTimeout": "no answer in time",
    "ReadTimeoutError": "no answer in time",
    "TooManyRedirects": "too many redirects",
    "RemoteDisconnected": "connection closed",
    "ProtocolError": "connection closed",
    "JSONDecodeError": "an answer that is not MLflow's",
    "ParseError": "an answer that is not MLflow's",
}
"""Kinds of exceptions whose libraries are not imported here, by name of the class."""

PHRASES = {
    "connection refused": "connection refused",
    "connection broken": "connection closed",
    "timeout expired": "no answer in time",
    "not in a valid JSON format": "an answer that is not MLflow's",
    "the registry redirects to another host": "a redirect to another host",
    "the registry's answer has more than": "an answer that is too large",
}
"""Kinds of errors known by their text alone: of database drivers, MLflow's downloads, and `registry/http.py`."""


def fault_kind(error: BaseException) -> str:
    """Kind of an error of a registry's client, without any of its text."""
    causes = list(_causes(error))
    for cause in causes:
        if (status := _status(cause)) is not None:
            return f"HTTP {status}"
    for cause in reversed(causes):  # the root cause is the most specific
        for kind, named in KINDS:
            if isinstance(cause, kind):
                return named
        if (named := NAMES.get(type(cause).__name__)) is not None:
            return named
    text = str(error)
    return next((named for phrase, named in PHRASES.items() if phrase.lower() in text.lower()), _name(causes))


def without_credentials(text: str) -> str:
    """First lines of a message, with user and password removed from its URIs."""
    return re.sub(r"//[^/\s]+@", "//", " ".join(text.splitlines()[:3]))[:1000]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its cause, the cause of that, and so on."""
    for _ in range(MAX_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """HTTP status of the registry's last answer."""
    if type(error).__name__ == "TooManyRedirects":
        return None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if type(error).__name__ == "RestException":  # it has MLflow's own error code, but no status
        status = error.get_http_status_code()  # pyright: ignore[reportAttributeAccessIssue]
    if status is None and (found := STATUS.search(str(error))):
        status = int(found[1])
    return status if isinstance(status, int) else None


def _name(causes: list[BaseException]) -> str:
    """Class of the first cause that is not MLflow's own exception."""
    return next((name for cause in causes if (name := type(cause).__name__) != "MlflowException"), "MlflowException")
