"""A client of the service, for threads and for asyncio.

It needs httpx and msgspec, and pyarrow for tables of columns; nothing of the service.
"""

from madrone.client.answers import (
    Contribution,
    Curve,
    CurvePoint,
    Explanation,
    FailedRow,
    Interval,
    OtherContributions,
    Outcome,
    OutcomesTaken,
    Prediction,
    RefusedOutcome,
)
from madrone.client.awaiting import AsyncClient
from madrone.client.blocking import Client
from madrone.client.errors import (
    BadAnswer,
    FieldError,
    KeyRefused,
    MadroneError,
    OtherVersion,
    Overloaded,
    Refused,
    ServiceFailed,
    TimedOut,
    TooLarge,
    Unavailable,
)
from madrone.client.model import Feature, Model

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "Client",
    "Contribution",
    "Curve",
    "CurvePoint",
    "Explanation",
    "FailedRow",
    "Feature",
    "FieldError",
    "Interval",
    "KeyRefused",
    "MadroneError",
    "Model",
    "OtherContributions",
    "OtherVersion",
    "Outcome",
    "OutcomesTaken",
    "Overloaded",
    "Prediction",
    "Refused",
    "RefusedOutcome",
    "ServiceFailed",
    "TimedOut",
    "TooLarge",
    "Unavailable",
]
