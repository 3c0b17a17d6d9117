"""Routes of Triton's extensions that this service does not have: each says so, and what there is in its place."""

from litestar import route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from app.errors import NotSupported

MEMORY = "Shared memory is not supported: send the values of tensors in the body."
TRACING = "Traces are not supported. /metrics has the durations of requests."
LOGGING = "The log is not set by this protocol, but by LOG_LEVEL at the start."

ROUTES: dict[str, str] = {
    **{f"/v2/{kind}sharedmemory/{rest}": MEMORY for kind in ("system", "cuda")
       for rest in ("status", "unregister", "region/{region:str}/status", "region/{region:str}/register",
                    "region/{region:str}/unregister")},
    "/v2/trace/setting": TRACING,
    "/v2/models/{model:str}/trace/setting": TRACING,
    "/v2/logging": LOGGING,
}  # fmt: skip
"""What each route says."""


def unsupported_routes() -> list[HTTPRouteHandler]:
    """Handlers of the routes, which are in no document."""
    return [_handler([path for path, said in ROUTES.items() if said == text], text) for text in {*ROUTES.values()}]


def _handler(paths: list[str], text: str) -> HTTPRouteHandler:
    @route(paths, http_method=[HttpMethod.GET, HttpMethod.POST], include_in_schema=False)
    async def refuse() -> None:
        raise NotSupported(text)

    return refuse
