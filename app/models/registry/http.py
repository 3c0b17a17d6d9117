"""Limits for a registry behind HTTP: where its files may be, where it may redirect, how large an answer may be.

The server names the place of a model's files, redirects, and compresses. None of that may reach files of this machine
or other hosts of its network, or fill the memory.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from app.config.settings import Settings
from app.models.refusal import ModelRefused

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Size of an answer in memory, decompressed: enough for 10,000 versions of 3 KB each."""

AZURE = r"\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)"

STORES = {
    "s3": r"[^@]+",
    "gs": r"[^@]+",
    "r2": r"[^@]+@[\w-]+(\.(eu|fedramp))?\.r2\.cloudflarestorage\.com",
    "b2": r"[^@]+@s3\.[\w-]+\.backblazeb2\.com",
    "wasbs": rf"[^@]+@[\w-]+\.blob{AZURE}",
    "abfss": rf"[^@]+@[\w-]+\.dfs{AZURE}",
}
"""Stores that the operator's credentials are for, by scheme, with a pattern for the text after `//`.

The first two are reached at the operator's own endpoint. With the others MLflow sends credentials to the host in the
address, so that the host must belong to the store. `hdfs:` and `viewfs:` can name any host, and are refused.
"""

ARTIFACTS_PATH = "/mlflow-artifacts/artifacts"
"""Part of every address that MLflow's client fetches files from over HTTP."""


def is_http(uri: str) -> bool:
    """Whether a URI of a registry is that of an HTTP server."""
    return urlsplit(uri).scheme in ("http", "https")


def check_source(uri: str, named_by: str, settings: Settings) -> None:
    """Refuse a place of model files that a registry behind HTTP may not name.

    Args:
        uri: URI of the files.
        named_by: URI of the registry or tracking server that named the place. A file or database of this machine may
            name any place.
        settings: Settings with the URIs of both servers, and with MODEL_ARTIFACT_ROOT.

    Raises:
        ModelRefused: The place is a local path outside MODEL_ARTIFACT_ROOT, on another host, of a scheme that could
            lead anywhere, or no address of files on an MLflow server.
    """
    if not is_http(named_by):
        return
    try:
        parts = urlsplit(uri)
        _ = parts.port  # read at each use
    except ValueError as error:
        raise ModelRefused("its files are at an address that is not a valid URI") from error
    if parts.scheme in ("", "file"):
        from mlflow.utils.file_utils import local_file_uri_to_path

        root = settings.model_artifact_root
        if root is None or not Path(local_file_uri_to_path(uri)).resolve().is_relative_to(root.resolve()):
            raise ModelRefused("its files are at a local path, and that is not below MODEL_ARTIFACT_ROOT")
        return
    if parts.scheme in STORES:
        if not re.fullmatch(STORES[parts.scheme], parts.netloc, re.IGNORECASE | re.ASCII):
            raise ModelRefused(f"its files are at a {parts.scheme}: address whose host that store does not have")
        return
    if parts.scheme not in ("http", "https", "mlflow-artifacts"):
        raise ModelRefused(
            f"its files are at a {parts.scheme[:20]}: address, which a registry behind HTTP may not name"
        )
    if parts.scheme == "mlflow-artifacts":
        tracking = urlsplit(settings.tracking_uri)
        uri = f"{tracking.scheme}://{parts.netloc or tracking.netloc}"
    # Libraries parse a URI with such characters differently.
    if re.search(r"[\s\\]", uri):
        raise ModelRefused("the address of its files has a blank or a backslash")
    if all(_elsewhere(known, uri) for known in (settings.tracking_uri, settings.registry_uri)):
        raise ModelRefused("its files are on another host than the registry")
    if parts.scheme != "mlflow-artifacts" and ARTIFACTS_PATH not in parts.path:
        raise ModelRefused(f"its files are at a {parts.scheme}: address that has no {ARTIFACTS_PATH} in its path")


def limit_requests() -> None:
    """Limit MLflow's HTTP client in this process: the size of answers, and redirects to the same host.

    MLflow makes its own sessions and accepts none, so the limits patch classes of `requests`.
    """
    import requests
    from requests.adapters import HTTPAdapter

    send, redirect_target = HTTPAdapter.send, requests.Session.get_redirect_target

    def limited_send(
        self: HTTPAdapter,
        request: "PreparedRequest",
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> "Response":
        response = send(self, request, stream, timeout, verify, cert, proxies)
        # A streamed answer goes to a file, whose size is watched elsewhere; an error is read whole in any case.
        if not stream or response.status_code >= 300:
            response.raw.stream = _limited(response.raw.stream)
        return response

    def same_host_target(self: "Session", resp: "Response") -> str | None:
        target = redirect_target(self, resp)
        if target is not None and self.should_strip_auth(resp.url, urljoin(resp.url, target)):
            raise requests.RequestException("the registry redirects to another host")
        return target

    HTTPAdapter.send = limited_send
    requests.Session.get_redirect_target = same_host_target


def _limited(stream: Any) -> Any:
    """A `stream` method of urllib3 that fails beyond MAX_ANSWER_BYTES."""
    import requests

    def limited(*arguments: Any, **options: Any) -> Iterator[bytes]:
        total = 0
        for chunk in stream(*arguments, **options):
            total += len(chunk)
            if total > MAX_ANSWER_BYTES:
                raise requests.RequestException(f"the registry's answer has more than {MAX_ANSWER_BYTES} bytes")
            yield chunk

    return limited


def _elsewhere(known: str, uri: str) -> bool:
    """Whether a URI has another host or port. A change from http to https with default ports does not count."""
    import requests

    return not is_http(known) or requests.Session().should_strip_auth(known, uri)
