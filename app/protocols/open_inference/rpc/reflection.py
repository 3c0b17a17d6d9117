"""Server reflection, by which clients such as grpcurl learn the methods and their messages."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio as reflection

from app.errors import MalformedBody, Overloaded
from app.protocols.open_inference.rpc.call import EOF
from app.protocols.open_inference.rpc.health import HEALTH
from app.protocols.open_inference.rpc.messages import POOL, SERVICE

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
NEWER = "grpc.reflection.v1.ServerReflection"
"""The same service under its later name, with the same messages."""

MOST_STREAMS = 100


class Reflection:
    """Answers reflection."""

    def __init__(self) -> None:
        for other in (health_pb2, reflection_pb2):
            POOL.AddSerializedFile(other.DESCRIPTOR.serialized_pb)
        self._servicer = reflection.ReflectionServicer((SERVICE, HEALTH, REFLECTION), POOL)
        self._streams = 0

    async def answer(self, context: Any, ended: asyncio.Event) -> None:
        """Answer the questions of a client, until it has no more or the server ends.

        Raises:
            Overloaded: Too many clients ask.
        """
        if self._streams >= MOST_STREAMS:
            raise Overloaded("As many clients ask for reflection as can.")
        self._streams += 1
        try:
            answers: Any = self._servicer.ServerReflectionInfo(_questions(context, ended), context)
            async for answer in answers:
                await context.write(answer.SerializeToString())
        finally:
            self._streams -= 1


async def _questions(context: Any, ended: asyncio.Event) -> AsyncIterator[Any]:
    while True:
        reading = asyncio.ensure_future(context.read())
        ending = asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return
            message = reading.result()
        finally:  # also where the client cancels the call
            ending.cancel()
            reading.cancel()
        if message is EOF:
            return
        try:
            yield reflection_pb2.ServerReflectionRequest.FromString(message)
        except DecodeError:
            raise MalformedBody("The message is not a ServerReflectionRequest.") from None
