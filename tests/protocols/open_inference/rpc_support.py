"""Apps with a port for gRPC, and calls to them by tritonclient."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from app.config.settings import Settings
from tests.routes.support import Array, Client, client_of, settings_with
from tests.support import free_port
from tests.wire import WITHIN_S

T = TypeVar("T")

INFER = "/inference.GRPCInferenceService/ModelInfer"


class Rpc(NamedTuple):
    """An app, and a channel to its port for gRPC."""

    client: Client
    channel: grpc.aio.Channel
    address: str

    @property
    def model(self) -> str:
        return self.client.app.services.settings.model_name

    async def sync(self, work: Callable[[InferenceServerClient], T]) -> T:
        """What tritonclient's client for threads gives."""

        def run() -> T:
            with InferenceServerClient(self.address) as triton:
                return work(triton)

        return await asyncio.to_thread(run)

    async def infer(self, inputs: Sequence[InferInput], *outputs: str, **more: Any) -> Any:
        """The answer that tritonclient's client for asyncio gets."""
        asked = [InferRequestedOutput(name) for name in outputs]
        async with AsyncClient(self.address) as triton:
            return await triton.infer(self.model, list(inputs), outputs=asked, **more)

    async def send(self, message: bytes, path: str = INFER, **more: Any) -> bytes:
        """The answer to a message of any bytes."""
        return await self.channel.unary_unary(path)(message, **more)

    async def refused(self, message: bytes | Any, path: str = INFER, **more: Any) -> grpc.aio.AioRpcError:
        """The error with which a message is answered."""
        sent = message if isinstance(message, bytes) else message.SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.send(sent, path, **more)
        assert "Traceback" not in text(caught.value)
        return caught.value


@asynccontextmanager
async def rpc_of(settings: Settings, **changes: Any) -> AsyncIterator[Rpc]:
    """An app that serves gRPC too, once its port is open."""
    port = free_port()
    async with client_of(settings_with(settings, api_host="127.0.0.1", grpc_port=port, **changes)) as client:
        address = f"127.0.0.1:{port}"
        async with channel_to(address) as channel:
            async with asyncio.timeout(WITHIN_S):
                await channel.channel_ready()
            yield Rpc(client, channel, address)


def channel_to(address: str) -> grpc.aio.Channel:
    """A channel with a connection of its own."""
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    return grpc.aio.insecure_channel(address, options=own)


def tensor(name: str, values: Any, shape: Sequence[int] | None = None) -> InferInput:
    """An input of tritonclient, which sends it raw."""
    array = np.asarray(values)
    given = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    if shape is not None:
        given.set_shape(list(shape))
    return given


def matrix(rows: Array) -> InferInput:
    return tensor("features", np.ascontiguousarray(rows))


def request(rows: Array | None = None, model: str = "california-housing-model", **fields: Any) -> Any:
    """A message whose numbers are raw."""
    message = service_pb2.ModelInferRequest(model_name=model, **fields)
    if rows is not None:
        message.inputs.add(name="features", datatype="FP64", shape=rows.shape)
        message.raw_input_contents.append(rows.tobytes())
    return message


def typed(name: str, datatype: str, shape: Sequence[int], field: str, values: Any) -> Any:
    """An input whose values are in the field of their datatype."""
    given = service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    getattr(given.contents, field).extend(values)
    return given


def parsed(answer: bytes) -> Any:
    return service_pb2.ModelInferResponse.FromString(answer)


def code(error: Any) -> str:
    """Name of the status code of an error, of grpcio or tritonclient."""
    if isinstance(error, InferenceServerException):
        return str(error.status()).removeprefix("StatusCode.")
    return error.code().name


def text(error: grpc.aio.AioRpcError) -> str:
    return error.details() or ""
