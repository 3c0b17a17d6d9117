"""What went wrong with a registry, in words that anybody may read: a kind, and a status where there is one.

What MLflow and the libraries under it say repeats the registry's own words, hosts, paths, and redirects.
"""

import re
import socket
import ssl
from collections.abc import Iterator

MAX_CAUSES = 20

STATUS = re.compile(r"(?:failed with error code|too many) ([1-5][0-9]{2})\b")
"""As MLflow and urllib3 say it."""

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
"""Of exceptions whose libraries are not imported here, by the name of the class."""

PHRASES = {
    "connection refused": "connection refused",
    "connection broken": "connection closed",
    "timeout expired": "no answer in time",
    "not in a valid JSON format": "an answer that is not MLflow's",
    "the registry redirects to another host": "a redirect to another host",
    "the registry's answer has more than": "an answer that is too large",
}
"""Of errors that say it in their text alone: a database driver's, MLflow's over a download, `registry_http`'s."""


def fault_kind(error: BaseException) -> str:
    """Say of what kind an error of a registry's client is, and repeat nothing of what it says."""
    causes = list(_causes(error))
    for cause in causes:
        if (status := _status(cause)) is not None:
            return f"HTTP {status}"
    for cause in reversed(causes):  # the first of them says it best
        for kind, named in KINDS:
            if isinstance(cause, kind):
                return named
        if (named := NAMES.get(type(cause).__name__)) is not None:
            return named
    text = str(error)
    return next((named for phrase, named in PHRASES.items() if phrase.lower() in text.lower()), _name(causes))


def without_credentials(text: str) -> str:
    """First lines of a message, with user and password cut out of any URI in it."""
    return re.sub(r"//[^/\s]+@", "//", " ".join(text.splitlines()[:3]))[:1000]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came of, and so on."""
    for _ in range(MAX_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """HTTP status that a registry answered with in the end."""
    if type(error).__name__ == "TooManyRedirects":
        return None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if type(error).__name__ == "RestException":  # MLflow keeps the code of its own error, and no status
        status = error.get_http_status_code()  # pyright: ignore[reportAttributeAccessIssue]
    if status is None and (found := STATUS.search(str(error))):
        status = int(found[1])
    return status if isinstance(status, int) else None


def _name(causes: list[BaseException]) -> str:
    """The class of what MLflow's own exception came of, else of the error itself."""
    return next((name for cause in causes if (name := type(cause).__name__) != "MlflowException"), "MlflowException")
