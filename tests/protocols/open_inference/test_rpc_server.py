"""The server: its description of itself, its health, and how it ends."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2

from app.config.contradictions import contradictions
from app.config.settings import Settings, SettingsError
from app.protocols.open_inference.rpc.health import HEALTH
from app.protocols.open_inference.rpc.messages import METHODS, POOL, SERVICE
from app.protocols.open_inference.rpc.reflection import NEWER, REFLECTION
from tests.protocols.open_inference.rpc_support import INFER, channel_to, code, parsed, request, rpc_of
from tests.routes.support import Hanging, Row, compute_with, row_of, services_of, varied
from tests.support import ROOT, Server, come_true, eventually, free_port
from tests.wire import WITHIN_S

FOLDER = ROOT / "app" / "protocols" / "open_inference" / "rpc"
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


def test_the_description_of_the_messages_is_up_to_date(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    arguments = [f"--proto_path={FOLDER}", f"--descriptor_set_out={made}", str(FOLDER / "inference.proto")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "--include_imports", *arguments], check=True)
    kept = FileDescriptorSet.FromString((FOLDER / "inference.binpb").read_bytes())
    assert kept == FileDescriptorSet.FromString(made.read_bytes())


def test_every_field_is_tritons() -> None:
    theirs = service_pb2.DESCRIPTOR.pool
    for name in POOL.FindFileByName("inference.proto").message_types_by_name:
        check_message(
            POOL.FindMessageTypeByName(f"inference.{name}"), theirs.FindMessageTypeByName(f"inference.{name}")
        )
    service = theirs.FindServiceByName(SERVICE)
    for name, method in METHODS.items():
        other = service.methods_by_name[name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name


def check_message(ours: Any, theirs: Any) -> None:
    for name, field in ours.fields_by_name.items():
        other = theirs.fields_by_name[name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), name
        assert (field.containing_oneof and field.containing_oneof.name) == (
            other.containing_oneof and other.containing_oneof.name
        )
        if field.enum_type is not None:
            values = {value.name: value.number for value in field.enum_type.values}
            assert values == {value.name: value.number for value in other.enum_type.values}
    for name, inner in ours.nested_types_by_name.items():
        check_message(inner, theirs.nested_types_by_name[name])


async def test_tritons_client_learns_of_server_and_model(settings: Settings, example: Row) -> None:
    async with rpc_of(settings) as rpc:

        def ask(triton: Any) -> tuple[Any, ...]:
            return (
                triton.is_server_live(), triton.is_server_ready(), triton.is_model_ready(rpc.model, "1"),
                triton.get_server_metadata(), triton.get_model_metadata(rpc.model, "1"),
                triton.get_model_config(rpc.model).config, triton.get_model_repository_index(),
                triton.get_inference_statistics(), triton.get_inference_statistics(rpc.model, "1"),
            )  # fmt: skip

        await rpc.send(request(varied(example, 3)).SerializeToString())
        *ready, server, model, config, index, every, one = await rpc.sync(ask)
        assert ready == [True, True, True]
        assert server.name == "madrone"
        assert (model.name, list(model.versions), model.platform) == (rpc.model, ["1"], "lightgbm")
        given = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in model.inputs]
        assert given == [("features", "FP64", [-1, len(example)])]
        assert [tensor.name for tensor in model.outputs] == ["prediction", "lower", "upper", "raw_score"]
        assert (config.max_batch_size, list(config.input[0].dims)) == (settings.max_bulk_rows, [len(example)])
        assert [(entry.name, entry.version, entry.state) for entry in index.models] == [(rpc.model, "1", "READY")]
        assert every == one
        (counted,) = one.model_stats
        assert (counted.inference_count, counted.inference_stats.success.count) == (3, 1)
        assert counted.inference_stats.success.ns > 0


async def test_reflection_describes_every_service(settings: Settings) -> None:
    async with rpc_of(settings) as rpc:

        def ask() -> tuple[list[str], Any, Any]:
            with grpc.insecure_channel(rpc.address) as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                pool = DescriptorPool(database)
                services = [pool.FindServiceByName(name) for name in database.get_services()]
                message = pool.FindMessageTypeByName("inference.ModelInferRequest")
            return [service.full_name for service in services], services, message

        names, services, message = await asyncio.to_thread(ask)
        assert sorted(names) == sorted([SERVICE, HEALTH, REFLECTION])
        assert {method.name for service in services for method in service.methods} >= {*METHODS, "Check", "Watch"}
        assert message.fields_by_name["raw_input_contents"].number == 7
        stream = rpc.channel.stream_stream(f"/{NEWER}/ServerReflectionInfo")()
        await stream.write(b"\x3a\x00")  # list_services
        assert SERVICE.encode() in await stream.read()
        await stream.write(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError, match="ServerReflectionRequest"):
            await stream.read()


async def test_a_cancelled_stream_of_reflection_leaves_nothing_behind(settings: Settings) -> None:
    async with rpc_of(settings) as rpc:
        open_stream = rpc.channel.stream_stream(f"/{NEWER}/ServerReflectionInfo")

        async def cancelled() -> None:
            stream = open_stream()
            await stream.write(b"\x3a\x00")  # list_services
            await stream.read()
            stream.cancel()

        before = waits()
        for _ in range(20):
            await cancelled()
        await come_true(lambda: waits() <= before)


def waits() -> int:
    """Number of tasks, of all loops, that wait for an event."""
    # By type(), since isinstance() asks a weak reference for what may be no more.
    found: list[Any] = [task for task in gc.get_objects() if type(task) is asyncio.Task and not task.done()]
    return sum(getattr(task.get_coro(), "__qualname__", "") == "Event.wait" for task in found)


def asked(service: str = "") -> bytes:
    return health_pb2.HealthCheckRequest(service=service).SerializeToString()


def status(answer: Any) -> int:
    return health_pb2.HealthCheckResponse.FromString(answer).status


async def test_health_follows_the_model_and_the_shutdown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.protocols.open_inference.rpc.server.INTERVAL_S", 0.02)
    async with rpc_of(settings, shutdown_delay=0.2) as rpc:
        check, services = f"/{HEALTH}/Check", services_of(rpc.client)
        assert [status(await rpc.send(asked(name), check)) for name in ("", SERVICE)] == [SERVING, SERVING]
        assert code(await rpc.refused(asked("none.Such"), check)) == "NOT_FOUND"
        assert code(await rpc.refused(b"\xff", check)) == "INVALID_ARGUMENT"
        watch = rpc.channel.unary_stream(f"/{HEALTH}/Watch")
        streams = [watch(asked(name)) for name in ("", SERVICE, "none.Such")]
        assert [status(await stream.read()) for stream in streams] == [SERVING, SERVING, UNKNOWN]
        streams[0].cancel()  # one that leaves takes nothing from the others
        served, services.slot.current = services.slot.current, None
        assert status(await streams[1].read()) == NOT_SERVING
        assert status(await rpc.send(asked(), check)) == NOT_SERVING
        services.slot.current = served
        assert status(await streams[1].read()) == SERVING
        services.shutdown.announce()
        assert status(await streams[1].read()) == NOT_SERVING
        assert not await rpc.sync(lambda triton: triton.is_server_ready())
        for stream in streams[1:]:
            assert await stream.read() == grpc.aio.EOF  # once SHUTDOWN_DELAY is over


async def test_watchers_are_bounded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.protocols.open_inference.rpc.health.MOST_WATCHERS", 1)
    monkeypatch.setattr("app.protocols.open_inference.rpc.reflection.MOST_STREAMS", 0)
    async with rpc_of(settings) as rpc:
        watch = rpc.channel.unary_stream(f"/{HEALTH}/Watch")
        first = watch(asked())
        assert status(await first.read()) == SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="many clients watch"):
            await watch(asked()).read()
        with pytest.raises(grpc.aio.AioRpcError, match="many clients ask"):
            await rpc.channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo")().read()
        first.cancel()


async def test_a_call_in_progress_is_answered_while_the_service_ends(settings: Settings, example: Row) -> None:
    async with rpc_of(settings, shutdown_delay=0.0) as rpc:
        services = services_of(rpc.client)
        server = services.tasks.status["grpc-server"]
        with Hanging() as hanging:
            compute_with(rpc.client, hanging)
            call = rpc.channel.unary_unary(INFER)(request(varied(example, 2)).SerializeToString())
            await come_true(lambda: services.gate.in_progress == 1)
            services.shutdown.announce()
            async with channel_to(rpc.address) as late:
                error = await until_it_fails(late.unary_unary(f"/{SERVICE}/ServerLive"))
            assert (code(error), server.state) == ("UNAVAILABLE", "running")
        assert parsed(await call).outputs
        await come_true(lambda: server.state == "finished")


async def until_it_fails(method: Any) -> grpc.aio.AioRpcError:
    """The error of a call once the port is closed; grpcio cancels one that comes in that moment."""
    while True:
        try:
            await method(b"", timeout=WITHIN_S)
        except grpc.aio.AioRpcError as error:
            if code(error) != "CANCELLED":
                return error


async def test_a_port_in_use_is_an_error_that_names_the_setting(settings: Settings) -> None:
    async with rpc_of(settings) as rpc:
        port = int(rpc.address.rpartition(":")[2])
        taken = type(rpc.client.app.litestar.state["rpc"])
        other = rpc.client.app.litestar.state["rpc"]
        second = taken(other._services, other._scorings, None, other._telemetry)
        with pytest.raises(OSError, match=f"API_HOST 127.0.0.1, GRPC_PORT {port}"):
            await second.run()
        await second.stop()


@pytest.mark.slow
def test_the_command_serves_on_the_port_and_ends_at_a_signal(serve: Callable[..., Server], example: Row) -> None:
    port = free_port()
    server = serve(GRPC_PORT=str(port), SHUTDOWN_DELAY="0").wait_ready()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_unary(INFER)(request(row_of(example)).SerializeToString(), wait_for_ready=True)
        assert parsed(answer).model_version == "1"
        second = serve(GRPC_PORT=str(port), API_PORT=str(free_port()))
        eventually(lambda: second.popen.poll() is not None)
        assert f"GRPC_PORT {port}: Address already in use" in second.log()
        watch = channel.unary_stream(f"/{HEALTH}/Watch")(asked())
        assert status(next(watch)) == SERVING
        assert server.terminate() == 0
    lines = [line for line in server.log().splitlines() if not line.startswith("{")]
    assert [line for line in lines if "grpc" in line.lower()] == []


def test_the_port_needs_packages_and_must_be_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="GRPC_PORT: must differ from API_PORT, both are 9000"):
        Settings.from_environ({"GRPC_PORT": "9000", "API_PORT": "9000"})
    with pytest.raises(SettingsError, match="GRPC_PORT: must differ from PROMETHEUS_PORT, both are 8001"):
        Settings.from_environ({"GRPC_PORT": "8001"})
    assert Settings.from_environ({"GRPC_PORT": "8001", "ENABLE_PROMETHEUS": "false"}).grpc_port == 8001
    monkeypatch.setattr("app.config.contradictions.GRPC_MODULES", ("grpc", "no_such_module"))
    (problem,) = contradictions(Settings(grpc_port=9000), frozenset())
    assert problem.startswith("GRPC_PORT: needs grpcio, which is not installed: install the grpc extra")
    assert contradictions(Settings(), frozenset()) == []


@pytest.mark.slow
def test_grpcio_is_imported_only_where_the_port_is_set() -> None:
    program = "import sys, app.main; print(sorted(name for name in sys.modules if name.startswith('grpc')))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
