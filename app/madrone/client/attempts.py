"""One request and its repetitions, without any I/O: what is to be sent, how long to wait, and when to give up.

A generator yields what is to be done, and gets what came of it. Whoever runs it does the I/O: `blocking` with threads,
`awaiting` with asyncio. Only what is safe and of use is repeated: a request that was not answered, since every call of
this client may be made twice, and one that the service refused for now. Waits grow twofold with jitter (M. Brooker,
Exponential Backoff And Jitter, AWS Architecture Blog, 2015), and are at least what Retry-After asks for.
"""

import email.utils
import random
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import msgspec

from madrone.client.errors import (
    BadAnswer,
    FieldError,
    KeyRefused,
    MadroneError,
    Overloaded,
    Refused,
    ServiceFailed,
    TimedOut,
    TooLarge,
    Unavailable,
)

T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
"""Bounds of the wait before the first repetition and before any, if the service asks for none."""

JITTER = 0.25
"""Share of a wait that the service asks for by which it is lengthened at most, so that its clients come apart."""

LONGEST_TIMEOUT_S = 1e8
"""Three years: the operating system takes no time without end."""

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding an answer raises that no Madrone service gives."""

PROBLEM = "application/problem+json"
KIND_PREFIX = "urn:madrone:problem:"


class Request(NamedTuple):
    """A request.

    Attributes:
        method: GET or POST.
        path: Path with query, below the service's URL.
        body: Body.
        media_type: Format of the body.
        accept: Formats of the answer that can be read.
        headers: Further headers.
    """

    method: str
    path: str
    body: bytes = b""
    media_type: str = "application/json"
    accept: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def route(self) -> str:
        """Path without query."""
        return self.path.partition("?")[0]


class Reply(NamedTuple):
    """An answer, whatever its status. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Format of the body, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Lost(NamedTuple):
    """No answer, or not the whole of one.

    Attributes:
        reason: Why.
        in_time: Whether that was known before the time of the attempt had passed.
        too_large: Whether there is one, with more bytes than the client takes.
    """

    reason: str
    in_time: bool = True
    too_large: bool = False


class Attempt(NamedTuple):
    """Send a request; what comes of it is a `Reply` of at most `most_bytes`, or a `Lost`, within `seconds`."""

    request: Request
    seconds: float
    most_bytes: int


class Pause(NamedTuple):
    """Wait."""

    seconds: float


Steps = Generator[Attempt | Pause, Reply | Lost | None, T]
"""What is to be done for a call, which returns T."""


class Policy(NamedTuple):
    """How requests are repeated.

    Attributes:
        base: URL of the service, for texts.
        timeout: Seconds for a request with all its repetitions.
        retries: Most repetitions.
        most_bytes: Most bytes of an answer.
        clock: Seconds that pass.
        jitter: A number from 0 to 1.
    """

    base: str
    timeout: float
    retries: int
    most_bytes: int
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random


class _Problem(msgspec.Struct):
    """Problem details, as far as they are used."""

    type: str = ""
    detail: str = ""
    request_id: str = ""
    errors: tuple[FieldError, ...] = ()


def exchange(request: Request, policy: Policy, timeout: float | None = None) -> Steps[Reply]:
    """Send a request until it is answered with success, or is not to be repeated.

    Args:
        request: The request.
        policy: How it is repeated.
        timeout: Seconds in place of the policy's.

    Raises:
        MadroneError: What the last attempt ended with.
        ValueError: The timeout is none.
    """
    seconds = policy.timeout if timeout is None else check_timeout(timeout)
    end = policy.clock() + seconds
    left, repetition = seconds, 0
    while True:
        outcome = yield Attempt(request, left, policy.most_bytes)
        assert outcome is not None
        if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
            return outcome
        error = _error(outcome, request, policy, seconds)
        left = end - policy.clock()
        if not _is_repeatable(outcome) or repetition >= policy.retries:
            raise error
        wait = _wait(error.retry_after, repetition, policy.jitter())
        if wait >= left:
            raise error
        yield Pause(wait)
        repetition += 1
        left = end - policy.clock()


def check_timeout(seconds: float) -> float:
    """Check the seconds of a request (ValueError: they are none)."""
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise ValueError(f"The timeout must be greater than 0, and at most {LONGEST_TIMEOUT_S:.0f} seconds.")
    return seconds


def read(reply: Reply, kind: type[T], request: Request) -> T:
    """The JSON body of an answer.

    Raises:
        BadAnswer: It is none of this kind.
    """
    if reply.media_type == "application/json":
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except NOT_JSON:
            pass
    raise bad_answer(reply, request)


def bad_answer(reply: Reply, request: Request) -> BadAnswer:
    """The error of an answer that no Madrone service gives."""
    what = reply.media_type[:100] or "no content type"
    return BadAnswer(
        f"{request.route} answered {reply.status} with {what}, but not as Madrone does. "
        "Is this the address of a Madrone service?",
        status=reply.status,
    )


def _is_repeatable(outcome: Reply | Lost) -> bool:
    """Whether the same request may well be answered a little later."""
    if isinstance(outcome, Reply):
        return outcome.status == 429 or (outcome.status == 503 and "retry-after" in outcome.headers)
    return outcome.in_time and not outcome.too_large


def _wait(asked: float | None, repetition: int, jitter: float) -> float:
    if asked is not None:
        return asked * (1 + JITTER * jitter)
    return jitter * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**repetition)


def _error(outcome: Reply | Lost, request: Request, policy: Policy, seconds: float) -> MadroneError:
    """What an attempt ended with that was no success."""
    if isinstance(outcome, Reply):
        return _error_of(outcome, request)
    if outcome.too_large:
        return BadAnswer(f"{request.route} answered with {outcome.reason}.")
    if outcome.in_time:
        return Unavailable(f"No answer from {policy.base}: {outcome.reason}.")
    return TimedOut(f"No answer from {policy.base} within {seconds:g} s.")


def _error_of(reply: Reply, request: Request) -> MadroneError:
    """The error of an answer with a status other than success."""
    problem = _Problem()
    status = reply.status
    if reply.media_type == PROBLEM:
        try:
            problem = msgspec.json.decode(reply.body, type=_Problem)
        except NOT_JSON:
            return bad_answer(reply, request)
    elif status < 400:
        return bad_answer(reply, request)
    kind = problem.type.removeprefix(KIND_PREFIX)
    asked = _retry_after(reply.headers.get("retry-after"))
    said = f": {problem.detail}" if problem.detail else "."
    return _class_of(status, kind)(
        f"{request.route} answered {status} {_phrase(status)}{said}",
        errors=problem.errors, status=status, kind=kind, request_id=problem.request_id, retry_after=asked,
    )  # fmt: skip


def _class_of(status: int, kind: str) -> type[MadroneError]:
    """The class of the error that an answer is."""
    match status:
        case 401 | 403:
            return KeyRefused
        case 408 | 504:
            return TimedOut
        case 413:
            return TooLarge
        case 429:
            return Overloaded
        case 502 | 503:
            return Overloaded if kind == "overloaded" else Unavailable
        case _:
            return Refused if status < 500 else ServiceFailed


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(unknown)"


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After: a number or a date (RFC 9110, section 10.2.3); None for what is neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        at = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
