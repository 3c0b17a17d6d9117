"""The page at `/` and its files, for browsers; all other clients of `/` get the JSON index."""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Annotated, Any, NamedTuple

from litestar import Request, Response, get
from litestar.datastructures.headers import Accept
from litestar.params import FromPath, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from app.container import Services
from app.errors import NotFound
from app.headers import adding_headers, headers_of

PREFIX = "/console"
"""First part of the paths of all routes but `/`."""

MODEL = "model"
"""Parameter of the query that names the model, of several; the first one's routes need none."""

Named = Annotated[str | None, QueryParameter(name=MODEL)]

FILE_ROUTE = PREFIX + "/{file:str}"

PAGE = "index.html"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}

POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'"),
        *("form-action 'none'", "base-uri 'none'", "frame-ancestors 'none'"),
    )
)
"""Content Security Policy: nothing from elsewhere, nothing inline, and no other page around this one."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for again each time, so that page and service are of the same version
}

VARY = ((b"vary", b"Accept"),)


def chosen(services: Services, name: str | None) -> Services:
    """The services of the model that a request names, or of the first.

    Raises:
        NotFound: No model of this name is served here.
    """
    return services if name is None else services.of(name)


class File(NamedTuple):
    """A file of the page.

    Attributes:
        content: Its bytes.
        media_type: Its type.
        tag: Its ETag. It is a weak one, since the bytes on the way may be compressed.
    """

    content: bytes
    media_type: str
    tag: str


@cache
def page_files() -> dict[str, File]:
    """All files of the page by name, read once."""
    found: dict[str, File] = {}
    for entry in files("app.console").joinpath("static").iterdir():
        content = entry.read_bytes()
        media_type = MEDIA_TYPES["." + entry.name.rpartition(".")[2]]
        found[entry.name] = File(content, media_type, f'W/"{sha256(content).hexdigest()[:32]}"')
    return found


@get(FILE_ROUTE, include_in_schema=False)
async def page_file(request: Request[Any, Any, Any], file: FromPath[str]) -> Response[bytes]:
    """A script, style or picture of the page."""
    request.scope["path_template"] = FILE_ROUTE  # pyright: ignore[reportGeneralTypeIssues]
    found = page_files().get(file)
    if found is None:
        raise NotFound("This route does not exist.")
    return _answer(found, request.headers.get("if-none-match"))


class PageForBrowsers:
    """ASGI application that answers `/` with the page where Accept prefers HTML.

    Args:
        app: Answers all other requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        send = adding_headers(send, VARY)
        headers = headers_of(scope)  # pyright: ignore[reportArgumentType]
        if not prefers_html(headers.get(b"accept", b"").decode("latin-1")):
            await self._app(scope, receive, send)
            return
        answer = _answer(page_files()[PAGE], headers.get(b"if-none-match", b"").decode("latin-1"))
        await answer.to_asgi_response(None, Request(scope))(scope, receive, send)


def prefers_html(accept: str) -> bool:
    """Whether an Accept header prefers HTML to JSON. `*/*` does not."""
    return Accept(accept).best_match(["application/json", "text/html"]) == "text/html"


def _answer(file: File, known: str | None) -> Response[bytes]:
    """A file, or 304 if the browser has it."""
    headers = {**HEADERS, "ETag": file.tag}
    if known and file.tag in (tag.strip() for tag in known.split(",")):
        return Response(b"", status_code=304, headers=headers, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
