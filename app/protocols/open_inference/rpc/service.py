"""The methods by their paths, and what each call has in common: its id, limits, errors, metrics and log line."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from app.container import Services
from app.errors import DeadlineExceeded, MalformedBody, NotSupported, RateLimited
from app.predict.exchange import WHOLE_ANSWER_BYTES
from app.predict.rate_limit import RateLimit
from app.predict.scoring import Scorings
from app.problems import failure_of
from app.protocols.open_inference.rpc.about import About, Method
from app.protocols.open_inference.rpc.call import Arrivals, Context, RpcCall
from app.protocols.open_inference.rpc.health import HEALTH, Health
from app.protocols.open_inference.rpc.infer import Inference
from app.protocols.open_inference.rpc.messages import METHODS, SERVICE, message
from app.protocols.open_inference.rpc.reflection import NEWER, REFLECTION, Reflection
from app.protocols.open_inference.rpc.status import code_of, text_of
from app.protocols.open_inference.rpc.unread import UnreadAnswer
from app.serving.deadline import Deadlines
from app.telemetry.logging import request_id
from app.telemetry.middleware import ABANDONED, UNMATCHED, RequestTelemetry
from app.telemetry.tracing.current import Traces, current_trace

GRPC = "GRPC"
"""Method of the calls in metrics and log."""

TIMED_OUT = DeadlineExceeded.status, DeadlineExceeded.kind

Handle = Callable[[RpcCall, Context], Awaitable[bytes | None]]


class Service(grpc.GenericRpcHandler):
    """Finds the handler of a call.

    Args:
        services: Collaborators of the application.
        scorings: Policies of all models.
        limit: Limit on the requests of a client; None where there is none.
        telemetry: Records the calls.
        arrivals: Bound on messages that take long to arrive.

    Attributes:
        health: Health of the service.
        ended: Set when the server ends, for calls that would last longer.
    """

    def __init__(
        self, services: Services, scorings: Scorings, limit: RateLimit | None, telemetry: RequestTelemetry,
        arrivals: Arrivals,
    ) -> None:  # fmt: skip
        self.health = Health(services)
        self.ended = asyncio.Event()
        self._settings = services.settings
        self._admission = services.admission
        self._slot = services.slot
        self._gate = services.gate
        self._metrics = services.metrics
        self._limit = limit
        self._telemetry = telemetry
        self._arrivals = arrivals
        self._deadlines = Deadlines(services.settings.request_timeout)
        self._inference = Inference(services, scorings)
        self._reflection = Reflection()
        self._unknown = self._unary(UNMATCHED, self._unsupported)
        self._handlers = self._by_path(About(services, self.health))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call."""
        return self._handlers.get(handler_call_details.method, self._unknown)

    def _by_path(self, about: About) -> dict[str, Any]:
        handles: dict[str, Handle] = {
            f"/{SERVICE}/{name}": partial(self._about, METHODS[name], method) for name, method in about.methods.items()
        }
        handles[f"/{SERVICE}/ModelInfer"] = self._infer
        handles[f"/{HEALTH}/Check"] = self._check
        streams: dict[str, Handle] = {f"/{HEALTH}/Watch": self._watch}
        for name in (REFLECTION, NEWER):
            streams[f"/{name}/ServerReflectionInfo"] = self._reflect
        return {path: self._unary(path, handle) for path, handle in handles.items()} | {
            path: grpc.stream_stream_rpc_method_handler(self._behaviour(path, handle))
            for path, handle in streams.items()
        }

    def _unary(self, path: str, handle: Handle) -> Any:
        """Handler of a method with one message. As a stream, it can refuse the call before the message is read."""
        return grpc.stream_unary_rpc_method_handler(self._behaviour(path, handle))

    def _behaviour(self, path: str, handle: Handle) -> Any:
        answer = partial(self._answer, path, handle)
        return answer if self._telemetry.traces is None else partial(_traced, self._telemetry.traces, answer)

    async def _answer(self, path: str, handle: Handle, _: Any, context: Context) -> bytes | None:
        """Answer a call, and record it."""
        started = time.perf_counter()
        call = RpcCall(context, self._gate, self._arrivals)
        token = request_id.set(call.request_id)
        context.set_trailing_metadata((("x-request-id", call.request_id),))
        status, kind, refusal = 200, None, None
        self._metrics.in_flight.count += 1
        try:
            return await handle(call, context)
        except asyncio.CancelledError:
            status, kind = TIMED_OUT if _is_too_late(context) else (ABANDONED, None)
            raise
        except Exception as error:
            status, kind = self._refuse(call, context, error)
            refusal = getattr(error, "refusal", None)
            return b""
        finally:
            self._metrics.in_flight.count -= 1
            seconds = time.perf_counter() - started
            self._telemetry.record(GRPC, path, int(status), seconds, call.peer[0], call.request_id, kind, refusal)
            request_id.reset(token)

    def _refuse(self, call: RpcCall, context: Context, error: Exception) -> tuple[int, str]:
        """Answer a call with an error; gives its HTTP status and its kind."""
        failure = failure_of(error, call.request_id)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        context.set_code(code_of(failure))
        context.set_details(text_of(failure))
        if (seconds := getattr(error, "retry_after", None)) is not None:
            pushback = ("grpc-retry-pushback-ms", str(1000 * seconds))
            context.set_trailing_metadata((("x-request-id", call.request_id), pushback))
        return failure.status, failure.kind

    async def _infer(self, call: RpcCall, context: Context) -> bytes:
        if self._limit is not None:
            requests, seconds = self._limit.count(call.peer[0])
            if requests > self._limit.limit:
                raise RateLimited(seconds)
        if _is_too_late(context):
            raise DeadlineExceeded("The client's deadline has passed.")
        ticket = self._gate.enter()
        try:
            with self._deadlines.start() as deadline:
                reply = await self._inference.answer(call, deadline)
        finally:
            self._gate.leave(ticket)
            self._metrics.stages.add(call.stages)
        if len(reply) > WHOLE_ANSWER_BYTES:
            served = self._slot.current
            reservation = self._admission.enter(1 if served is None else len(served.feature_names))
            reservation.reserve_answer(len(reply))
            context.add_done_callback(UnreadAnswer(reservation, call.peer, self._deadlines.seconds).end)
        return reply

    async def _about(self, described: Any, method: Method, call: RpcCall, _: Context) -> bytes:
        body = await self._message(call)
        try:
            asked = message(described.input_type.name).FromString(body)
        except DecodeError:
            raise MalformedBody(f"The message is not a {described.input_type.name}.") from None
        return (await method(asked)).SerializeToString()

    async def _message(self, call: RpcCall) -> bytes:
        """The message of a call that needs little of it."""
        with self._deadlines.start() as deadline:
            return await call.read(self._settings.max_json_bytes, "MAX_JSON_BYTES", deadline)

    async def _check(self, call: RpcCall, _: Context) -> bytes:
        return await self.health.check(await self._message(call))

    async def _watch(self, call: RpcCall, context: Context) -> None:
        await self.health.watch(await self._message(call), context, self.ended)

    async def _reflect(self, _: RpcCall, context: Context) -> None:
        await self._reflection.answer(context, self.ended)

    async def _unsupported(self, call: RpcCall, _: Context) -> bytes:
        raise NotSupported(f"This method is not supported. {SERVICE} has {', '.join(METHODS)}.")


async def _traced(
    traces: Traces, answer: Callable[[Any, Context], Awaitable[Any]], messages: Any, context: Context
) -> Any:
    """Answer a call, and record its trace if it is sampled."""
    metadata = context.invocation_metadata()
    trace = traces.begin((name.encode(), value.encode()) for name, value in metadata if isinstance(value, str))
    if trace is None:
        return await answer(messages, context)
    token = current_trace.set(trace)
    try:
        return await answer(messages, context)
    finally:
        current_trace.reset(token)
        traces.end(trace)


def _is_too_late(context: Context) -> bool:
    """Whether the client's deadline has passed."""
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0
