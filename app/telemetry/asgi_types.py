"""Types of an ASGI application, for `telemetry`, which imports no framework.

Scope and message are dicts (https://asgi.readthedocs.io/en/latest/specs/main.html). Every framework has its own types
for them, which fit no common one.
"""

from collections.abc import Awaitable, Callable
from typing import Any

Scope = Any
Message = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Any, Any], Awaitable[None]]
