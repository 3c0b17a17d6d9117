"""Types of an ASGI application, of no framework (https://asgi.readthedocs.io/en/latest/specs/main.html).

A scope and a message are dicts. Every framework has its own types for them, which fit no common one.
"""

from collections.abc import Awaitable, Callable
from typing import Any

Scope = Any
Message = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Any, Any], Awaitable[None]]
