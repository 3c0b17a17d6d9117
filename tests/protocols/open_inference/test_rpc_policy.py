"""What calls share with requests over HTTP: keys, ids, limits, deadlines, canary, log and metrics."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from app.config.settings import Settings
from app.models.served import ServedModel
from app.prediction_log.tables import PREDICTIONS
from app.protocols.open_inference.rpc.server import LEAST_ARRIVING
from app.protocols.open_inference.rpc.service import GRPC
from tests.models.support import save_booster, serve, tiny_booster, tiny_rows
from tests.protocols.open_inference.rpc_support import INFER, Rpc, code, matrix, parsed, request, rpc_of, text
from tests.routes.support import Hanging, Row, compute_with, put, row_of, served_by, services_of, varied
from tests.support import come_true, sample_value
from tests.wire import WITHIN_S

ID = "x-request-id"


def metric(rpc: Rpc, name: str, **labels: str) -> float:
    return sample_value(services_of(rpc.client).metrics.registry, name, labels) or 0.0


def answered(rpc: Rpc, status: int) -> Callable[[], bool]:
    """Whether a call of ModelInfer was recorded with this status."""
    return lambda: metric(rpc, "api_requests_total", method=GRPC, endpoint=INFER, status_code=str(status)) > 0


def idle(rpc: Rpc) -> bool:
    services = services_of(rpc.client)
    return services.admission.in_flight == 0 and services.gate.in_progress == 0


async def test_a_key_comes_in_the_metadata(settings: Settings, example: Row) -> None:
    message = request(row_of(example)).SerializeToString()
    async with rpc_of(settings, api_key="sesame", api_key_second="poppy") as rpc:
        for given in ((), (("x-api-key", "wrong"),), (("authorization", "Basic sesame"),)):
            assert code(await rpc.refused(message, metadata=given)) == "UNAUTHENTICATED"
        two = (("x-api-key", "sesame"), ("authorization", "Bearer other"))
        assert code(await rpc.refused(message, metadata=two)) == "INVALID_ARGUMENT"
        twice = (("x-api-key", "sesame"), ("x-api-key", "sesame"))
        assert code(await rpc.refused(message, metadata=twice)) == "INVALID_ARGUMENT"
        for name, value in (("x-api-key", "sesame"), ("authorization", "Bearer sesame"), ("x-api-key", "poppy")):
            assert parsed(await rpc.send(message, metadata=((name, value),))).outputs
        answer = await rpc.infer([matrix(row_of(example))], headers={"x-api-key": "sesame"})
        assert answer.as_numpy("prediction").shape == (1, 1)
        assert await rpc.sync(lambda triton: triton.is_server_ready())  # needs no key, as over HTTP


async def test_the_id_of_a_request_is_returned_and_written(settings: Settings, example: Row) -> None:
    async with rpc_of(settings) as rpc:
        rows = varied(example, 2)
        call = rpc.channel.unary_unary(INFER)(request(rows).SerializeToString(), metadata=((ID, "of-a-test"),))
        answer = parsed(await call)
        assert dict(await call.trailing_metadata())[ID] == "of-a-test"
        error = await rpc.refused(b"\xff", metadata=((ID, "not valid"),))
        made = dict(error.trailing_metadata())[ID]
        assert len(made) == 32
        prediction = np.frombuffer(answer.raw_output_contents[0])
        engine = sa.create_engine(settings.prediction_database_url)
        written: list[Any] = []

        def is_written() -> bool:
            with suppress(sa.exc.OperationalError), engine.connect() as connection:  # it may have no table yet
                written[:] = connection.execute(sa.select(PREDICTIONS).order_by(PREDICTIONS.c.id)).all()
            return len(written) == 2

        await come_true(is_written)
        engine.dispose()
        assert {row.request_id for row in written} == {"of-a-test"}
        assert [row.prediction for row in written] == prediction.tolist()
        assert answered(rpc, 200)()
        assert metric(rpc, "predictions_total", model_version="1", prediction_type="batch") == 2
        await rpc.refused(b"", "/none/Such")
        await rpc.refused(b"", "/none/Other")
        unmatched = {"method": GRPC, "endpoint": "unmatched", "status_code": "501"}
        assert metric(rpc, "api_requests_total", **unmatched) == 2
        assert metric(rpc, "errors_total", error_type="malformed_body", endpoint=INFER) == 1


async def test_a_limit_counts_calls_and_requests_together(settings: Settings, example: Row) -> None:
    async with rpc_of(settings, rate_limit=2) as rpc:
        limit = rpc.client.app.litestar.state["rpc"]._limit
        message = request(row_of(example)).SerializeToString()
        await rpc.send(message)
        await rpc.send(message)
        error = await rpc.refused(message)
        assert (code(error), "RATE_LIMIT" in text(error)) == ("RESOURCE_EXHAUSTED", True)
        assert 0 < int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) <= 60_000
        assert limit.count("127.0.0.1")[0] == 4
        assert limit.count("testclient")[0] == 1


@pytest.mark.parametrize("limited", ["by the client", "by the service"])
async def test_a_call_ends_at_the_sooner_deadline(settings: Settings, example: Row, limited: str) -> None:
    by_client = limited == "by the client"
    async with rpc_of(settings, request_timeout=30.0 if by_client else 0.1) as rpc:
        served = served_by(rpc.client)
        with Hanging() as hanging:
            compute_with(rpc.client, hanging)
            error = await rpc.refused(request(varied(example, 2)), timeout=0.1 if by_client else 30)
            assert code(error) == "DEADLINE_EXCEEDED"
            await come_true(answered(rpc, 504))
        await come_true(lambda: idle(rpc))
        put(rpc.client, served)
        assert parsed(await rpc.send(request(varied(example, 2)).SerializeToString())).outputs


async def test_a_cancelled_call_is_not_computed(settings: Settings, example: Row) -> None:
    async with rpc_of(settings) as rpc:
        with Hanging() as hanging:
            engine = compute_with(rpc.client, hanging)
            message = request(varied(example, 2)).SerializeToString()
            calls = [rpc.channel.unary_unary(INFER)(message) for _ in range(40)]
            await come_true(lambda: services_of(rpc.client).gate.in_progress == len(calls))
            for call in calls:
                call.cancel()
            await come_true(lambda: idle(rpc))
            assert metric(rpc, "api_requests_total", method=GRPC, endpoint=INFER, status_code="499") == len(calls)
        begun = len(engine.batches)
        assert begun < len(calls)  # those that had a thread


async def test_an_overloaded_service_refuses_at_once(settings: Settings, example: Row) -> None:
    async with rpc_of(settings, max_requests_in_progress=1) as rpc:
        message = request(varied(example, 2)).SerializeToString()
        with Hanging() as hanging:
            compute_with(rpc.client, hanging)
            call = rpc.channel.unary_unary(INFER)(message)
            await come_true(lambda: services_of(rpc.client).gate.in_progress == 1)
            error = await rpc.refused(message)
            assert (code(error), "MAX_REQUESTS_IN_PROGRESS" in text(error)) == ("UNAVAILABLE", True)
            assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        assert parsed(await call).outputs
    async with rpc_of(settings, max_rows_in_flight=5000) as rpc:
        large = request(varied(example, 4000)).SerializeToString()
        with Hanging() as hanging:
            compute_with(rpc.client, hanging)
            call = rpc.channel.unary_unary(INFER)(large)
            await come_true(lambda: services_of(rpc.client).admission.in_flight >= 4000)
            error = await rpc.refused(large)
            assert (code(error), "MAX_ROWS_IN_FLIGHT" in text(error)) == ("UNAVAILABLE", True)
        assert parsed(await call).outputs


async def test_messages_that_do_not_come_are_bounded_in_number_and_time(settings: Settings, example: Row) -> None:
    async with rpc_of(settings, max_body_bytes=2**34, request_timeout=0.4) as rpc:
        method = rpc.channel.stream_unary(INFER)
        calls = [method() for _ in range(LEAST_ARRIVING + 1)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        codes = sorted(code(error) for error in errors)
        assert codes == [*["DEADLINE_EXCEEDED"] * LEAST_ARRIVING, "UNAVAILABLE"]
        assert parsed(await rpc.send(request(row_of(example)).SerializeToString())).outputs
        empty = method()
        await empty.done_writing()
        with pytest.raises(grpc.aio.AioRpcError, match="no message"):
            await empty


async def test_without_a_model_it_is_unavailable_and_not_ready(settings: Settings, example: Row) -> None:
    async with rpc_of(settings) as rpc:
        services_of(rpc.client).slot.current = None
        error = await rpc.refused(request(row_of(example)))
        assert (code(error), "No model is loaded" in text(error)) == ("UNAVAILABLE", True)
        assert await rpc.sync(lambda triton: (triton.is_server_live(), triton.is_server_ready())) == (True, False)
        assert not await rpc.sync(lambda triton: triton.is_model_ready(rpc.model))
        (index,) = (await rpc.sync(lambda triton: triton.get_model_repository_index())).models
        assert (index.name, index.state) == (rpc.model, "UNAVAILABLE")


async def test_the_canary_answers_its_share_and_its_version(settings: Settings, tmp_path: Path) -> None:
    models: list[ServedModel] = []
    for version, target in (("1", tiny_rows()[:, 0]), ("2", 20 - tiny_rows()[:, 0])):
        model = serve(save_booster(tiny_booster(target), tmp_path / version))
        identity = msgspec.structs.replace(model.identity, name=settings.model_name, version=version)
        models.append(msgspec.structs.replace(model, identity=identity))
    rows = np.ascontiguousarray(tiny_rows()[:3])
    async with rpc_of(settings, model_canary_percent=50.0) as rpc:
        slot = services_of(rpc.client).slot
        slot.current, slot.canary = models
        seen: set[str] = set()
        for number in range(20):
            message = request(rows).SerializeToString()
            answer = parsed(await rpc.send(message, metadata=((ID, str(number)),)))
            right = models[int(answer.model_version) - 1].engine.evaluate(rows).prediction
            assert np.frombuffer(answer.raw_output_contents[0]).tobytes() == right.tobytes()
            seen.add(answer.model_version)
        assert seen == {"1", "2"}
        for version in seen:
            answer = parsed(await rpc.send(request(rows, model_version=version).SerializeToString()))
            assert answer.model_version == version
        metadata = await rpc.sync(lambda triton: triton.get_model_metadata(rpc.model))
        assert list(metadata.versions) == ["1", "2"]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def unread_call(message: bytes) -> bytes:
    """A call whose client gives the server no room for an answer."""
    names = {":method": "POST", ":scheme": "http", ":path": INFER, ":authority": "x", "te": "trailers",
             "content-type": "application/grpc"}  # fmt: skip
    headers = b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in names.items()
    )
    sent = b"\0" + len(message).to_bytes(4, "big") + message
    no_window = (4).to_bytes(2, "big") + bytes(4)
    data = [sent[start : start + 16_000] for start in range(0, len(sent), 16_000)]
    return b"".join((
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame(4, 0, 0, no_window), frame(1, 4, 1, headers),
        *(frame(0, part is data[-1], 1, part) for part in data),
    ))  # fmt: skip


async def test_an_answer_that_is_not_read_is_counted_and_given_up(settings: Settings, example: Row) -> None:
    rows = varied(example, 800)  # as much as a client may send before it reads
    async with rpc_of(settings, request_timeout=1.0, shutdown_grace=2) as rpc:
        admission = services_of(rpc.client).admission
        host, _, port = rpc.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        outputs = [{"name": name} for name in ("prediction", "lower", "upper", "raw_score")]
        message = request(rows, outputs=outputs).SerializeToString()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.protocols.open_inference.rpc.service.WHOLE_ANSWER_BYTES", 1024)
            writer.write(unread_call(message))
            await come_true(answered(rpc, 200))
        assert admission.in_flight > 0
        await come_true(lambda: admission.in_flight == 0)
        with suppress(ConnectionResetError):  # which is what a cut can look like
            while await asyncio.wait_for(reader.read(65_536), WITHIN_S):
                pass
        writer.close()
        assert parsed(await rpc.send(request(rows[:2]).SerializeToString())).outputs
