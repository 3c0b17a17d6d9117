"""What a registry behind HTTP may answer, and where it may send this process.

Whoever answers for a registry says where a model's files are, redirects, and compresses: none of that may lead to files
of this machine, to other hosts of its network, or to more memory than an answer needs.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from app.models.refusal import ModelRefused
from app.settings import Settings

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of an answer that is held as a whole, once it is decompressed: 10,000 versions, with 3 KB said of each."""

AZURE = r"\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)"

STORES = {
    "s3": r"[^@]+",
    "gs": r"[^@]+",
    "r2": r"[^@]+@[\w-]+(\.(eu|fedramp))?\.r2\.cloudflarestorage\.com",
    "b2": r"[^@]+@s3\.[\w-]+\.backblazeb2\.com",
    "wasbs": rf"[^@]+@[\w-]+\.blob{AZURE}",
    "abfss": rf"[^@]+@[\w-]+\.dfs{AZURE}",
}
"""By their schemes, the stores that an operator's credentials are for, and what may follow `//`.

The first two are reached at the operator's own endpoint; with the others MLflow sends the credentials to the host that
the address names, so that it must be the store's. `hdfs:` and `viewfs:` name any host, and are none of them.
"""

ARTIFACTS_PATH = "/mlflow-artifacts/artifacts"
"""In every address of files that MLflow's client fetches over HTTP."""


def is_http(uri: str) -> bool:
    """Whether a server answers under a registry's URI."""
    return urlsplit(uri).scheme in ("http", "https")


def check_source(uri: str, teller: str, settings: Settings) -> None:
    """Refuse a place of a model's files that is not the registry's to name.

    Args:
        uri: The place.
        teller: URI of the registry or tracking server that named it; one that is a file or a database of this machine
            may name local paths.
        settings: Name the hosts that are asked anyway, and the directory that a server shares with this machine.

    Raises:
        ModelRefused: The place is local and not below MODEL_ARTIFACT_ROOT, of a scheme that MLflow would follow
            anywhere, on another host, or no address of an MLflow server's files.
    """
    if not is_http(teller):
        return
    place = urlsplit(uri)
    if place.scheme in ("", "file"):
        from mlflow.utils.file_utils import local_file_uri_to_path

        root = settings.model_artifact_root
        if root is None or not Path(local_file_uri_to_path(uri)).resolve().is_relative_to(root.resolve()):
            raise ModelRefused("its files are at a local path, and that is not below MODEL_ARTIFACT_ROOT")
        return
    if place.scheme in STORES:
        if not re.fullmatch(STORES[place.scheme], place.netloc, re.IGNORECASE | re.ASCII):
            raise ModelRefused(f"its files are at a {place.scheme}: address whose host is not that store's")
        return
    if place.scheme not in ("http", "https", "mlflow-artifacts"):
        raise ModelRefused(
            f"its files are at a {place.scheme[:20]}: address, which a registry behind HTTP may not name"
        )
    if place.scheme == "mlflow-artifacts":
        tracking = urlsplit(settings.tracking_uri)
        uri = f"{tracking.scheme}://{place.netloc or tracking.netloc}"
    # Libraries disagree about what such a text is the address of.
    odd = re.search(r"[\s\\]", uri)
    if odd or all(_elsewhere(known, uri) for known in (settings.tracking_uri, settings.registry_uri)):
        raise ModelRefused("its files are on another host than the registry")
    if place.scheme != "mlflow-artifacts" and ARTIFACTS_PATH not in place.path:
        raise ModelRefused(f"its files are at a {place.scheme}: address that has no {ARTIFACTS_PATH} in its path")


def limit_requests() -> None:
    """Limit what MLflow's HTTP client takes in this process: answers in bytes, redirects to the host that was asked.

    MLflow makes its sessions itself and takes none, so the limits are on the library's own classes.
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
        # What is streamed goes to a file, whose size is watched; an error is read whole all the same.
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
    """urllib3's `stream`, which fails where more comes than an answer may have."""
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
    """Whether a URI is of another host or port; https in the place of http is not, where both have their own ports."""
    import requests

    return not is_http(known) or requests.Session().should_strip_auth(known, uri)
