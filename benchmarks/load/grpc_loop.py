"""Closed loop over gRPC, in a process of its own: messages of ModelInfer, some of them under way at once.

    python -m benchmarks.load.grpc_loop PLAN RECORD

gRPC's own client in Python costs as much as a server: the record's `cpu_share` tells whether it was the bottleneck.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import grpc.aio
import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.contenders import MODEL_NAME
from benchmarks.load.plan import Plan, Record, read_record, write_record

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def request(rows: NDArray[np.float64]) -> bytes:
    """Message with float64[B, F] rows."""
    made = service_pb2.ModelInferRequest(model_name=MODEL_NAME)
    made.inputs.add(name="features", datatype="FP64", shape=rows.shape)
    made.raw_input_contents.append(rows.tobytes())
    return made.SerializeToString()


def predictions(answer: bytes) -> NDArray[np.float64]:
    """float64[B] of an answer."""
    return np.frombuffer(service_pb2.ModelInferResponse.FromString(answer).raw_output_contents[0], np.float64)


def ask(port: int, message: bytes) -> bytes:
    """The answer to one message."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return channel.unary_unary(METHOD)(message, timeout=30)


def load(port: int, requests: list[bytes], calls: int, seconds: float) -> Record:
    """Run a closed loop in another process."""
    plan = Plan(port=port, requests=requests, connections=calls, seconds=seconds)
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "plan").write_bytes(msgspec.msgpack.encode(plan))
        arguments = [str(directory / "plan"), str(directory / "record.npz")]
        command = [sys.executable, "-m", "benchmarks.load.grpc_loop", *arguments]
        subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
        return read_record(directory / "record.npz")


async def run(plan: Plan) -> Record:
    """Send messages until the time is over."""
    sent: list[float] = []
    answered: list[float] = []
    following = 0
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{plan.port}", options) as channel:
        await channel.channel_ready()
        infer = channel.unary_unary(METHOD)
        cpu, start = time.process_time(), time.monotonic()

        async def work() -> None:
            nonlocal following
            while (now := time.monotonic()) < start + plan.seconds:
                message = plan.requests[following % len(plan.requests)]
                following += 1
                await infer(message)
                sent.append(now)
                answered.append(time.monotonic())

        await asyncio.gather(*(work() for _ in range(plan.connections)))
        seconds = time.monotonic() - start
        share = (time.process_time() - cpu) / seconds
    order = np.argsort(sent)
    starts = np.array(sent)[order]
    count = len(starts)
    return Record(
        starts, starts, np.array(answered)[order], np.full(count, 200), np.ones(count, np.bool_), share, seconds
    )


if __name__ == "__main__":
    asked = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    write_record(Path(sys.argv[2]), asyncio.run(run(asked)))
