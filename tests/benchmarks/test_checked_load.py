"""The load: what it calls a right answer, and that it goes on after one that never came."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from benchmarks.load.checked import Cases, Load, Verdict

CASES = Cases(requests=[b"GET / HTTP/1.1\r\n\r\n"], expected={"1": [0.5], "2": [0.25]})


def answer(prediction: float, version: str, status: str = "200 OK") -> bytes:
    body = msgspec.json.encode({"prediction": prediction, "model_version": version})
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def verdicts_on(*answers: bytes) -> list[tuple[int, Verdict]]:
    """Version and verdict of each answer that a server gives; after one that is cut off it closes the connection."""
    left: Iterator[bytes] = iter(answers)
    load: Load
    handlers: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        while not load.ended.is_set() and await reader.readline():
            await reader.readline()
            content = next(left)
            if content is answers[-1]:
                load.ended.set()
            writer.write(content)
            if not content.endswith(b"}"):
                break
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        load = Load(server.sockets[0].getsockname()[1], CASES)
        await load.run(1)
        await asyncio.gather(*filter(None, handlers))  # or a connection would be left open when the loop ends
    assert all(sent <= answered for sent, answered, _, _ in load.answers)
    return [(version, verdict) for _, _, version, verdict in load.answers]


async def test_each_version_has_its_own_prediction() -> None:
    assert await verdicts_on(answer(0.5, "1"), answer(0.25, "2")) == [(1, Verdict.RIGHT), (2, Verdict.RIGHT)]


@pytest.mark.parametrize(
    ("prediction", "version"),
    [(0.25, "1"), (0.5, "2"), (0.5, "3"), (0.5 + 1e-11, "1"), (0.25 - 1e-11, "2")],
)
async def test_another_prediction_than_the_named_versions_is_wrong(prediction: float, version: str) -> None:
    assert await verdicts_on(answer(prediction, version)) == [(int(version), Verdict.WRONG_PREDICTION)]


async def test_another_status_is_wrong_whatever_it_says() -> None:
    assert await verdicts_on(answer(0.5, "1", "503 Service Unavailable")) == [(0, Verdict.WRONG_STATUS)]


@pytest.mark.parametrize("kept", [0, 10, 45])
async def test_an_answer_that_is_cut_off_is_dropped_and_the_next_is_asked_for(kept: int) -> None:
    answers = answer(0.5, "1")[:kept], answer(0.25, "2")
    assert await verdicts_on(*answers) == [(0, Verdict.DROPPED), (2, Verdict.RIGHT)]
