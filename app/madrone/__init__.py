"""Madrone as users import it: the client of a service, without what the service needs, and `udf` for engines."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.udf.function import udf
    from madrone.client import AsyncClient, Client

    __version__: str

__all__ = ["AsyncClient", "Client", "__version__", "udf"]


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for (PEP 562)."""
    if name in ("AsyncClient", "Client"):
        from madrone import client

        return getattr(client, name)
    if name == "udf":
        from app.udf.function import udf

        return udf
    if name == "__version__":
        from importlib.metadata import version

        return version("madrone")
    raise AttributeError(f"module 'madrone' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
