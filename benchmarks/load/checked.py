"""Loads a server from a process of its own, and checks every answer: which version it names, and that one's prediction.

    python -m benchmarks.load.checked PORT CONNECTIONS CASES RESULT

A closed loop over keep-alive connections, until the standard input ends. CASES is what `write_cases` wrote; RESULT
becomes what `read_answers` reads. Times are those of the system's monotonic clock, which all processes share.
"""

import asyncio
import itertools
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-12
RECONNECT_S = 0.05
ANSWER_TIMEOUT_S = 60


class Verdict(IntEnum):
    """What an answer was."""

    RIGHT = 0
    WRONG_STATUS = 1
    WRONG_PREDICTION = 2
    """Not that of the version it names, or of a version that was never published."""
    DROPPED = 3
    """None came, or not a whole one."""


class Cases(msgspec.Struct, frozen=True):
    """Requests, and by version what is to be predicted for each."""

    requests: list[bytes]
    expected: dict[str, list[float]]


class Answers(NamedTuple):
    """Float64[N] monotonic seconds when each request was sent and answered, int64[N] its version, uint8[N] verdict."""

    sent: NDArray[np.float64]
    answered: NDArray[np.float64]
    version: NDArray[np.int64]
    verdict: NDArray[np.uint8]


class Answer(msgspec.Struct, frozen=True):
    """What is read of an answer's body."""

    prediction: float
    model_version: str


def write_cases(path: Path, cases: Cases) -> None:
    path.write_bytes(msgspec.msgpack.encode(cases))


def read_answers(path: Path) -> Answers:
    return Answers(**np.load(path))


class Load:
    """A load.

    Args:
        port: Of the server, on loopback.
        cases: Asked for one after the other, and then again.

    Attributes:
        ended: Set it, and each connection ends with the answer that it waits for.
        answers: When each request was sent and answered, its version, and what the answer was.
    """

    def __init__(self, port: int, cases: Cases) -> None:
        self._port = port
        self._cases = cases
        self._next = itertools.cycle(range(len(cases.requests)))
        self._decode = msgspec.json.Decoder(Answer).decode
        self.ended = asyncio.Event()
        self.answers: list[tuple[float, float, int, Verdict]] = []

    async def run(self, connections: int) -> None:
        """Ask over so many connections until it is ended."""
        await asyncio.gather(*(self._loop() for _ in range(connections)))

    async def _loop(self) -> None:
        """Ask over one connection, and over a new one where that breaks."""
        while not self.ended.is_set():
            sent = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    while not self.ended.is_set():
                        case = next(self._next)
                        sent = time.monotonic()
                        writer.write(self._cases.requests[case])
                        async with asyncio.timeout(ANSWER_TIMEOUT_S):
                            ok, body = await read_answer(reader)
                        version, verdict = self._judge(case, body) if ok else (0, Verdict.WRONG_STATUS)
                        if verdict is not Verdict.RIGHT:
                            print(verdict.name, body[:300], file=sys.stderr)
                        self.answers.append((sent, time.monotonic(), version, verdict))
                finally:
                    writer.close()
            except (OSError, asyncio.IncompleteReadError) as error:
                print(Verdict.DROPPED.name, repr(error), file=sys.stderr)
                self.answers.append((sent, time.monotonic(), 0, Verdict.DROPPED))
                await asyncio.sleep(RECONNECT_S)

    def _judge(self, case: int, body: bytes) -> tuple[int, Verdict]:
        answer = self._decode(body)
        expected = self._cases.expected.get(answer.model_version)
        right = expected is not None and abs(answer.prediction - expected[case]) <= TOLERANCE
        return int(answer.model_version), Verdict.RIGHT if right else Verdict.WRONG_PREDICTION


async def read_answer(reader: asyncio.StreamReader) -> tuple[bool, bytes]:
    """Whether an answer, which must have a Content-Length, is a 200; and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return head.startswith(b"http/1.1 200"), await reader.readexactly(length)


async def load(port: int, connections: int, cases: Cases) -> Answers:
    running = Load(port, cases)
    # At the end of the input there is something to read; so a load ends with the process that started it.
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), running.ended.set)
    await running.run(connections)
    sent, answered, version, verdict = zip(*running.answers, strict=True)
    return Answers(np.array(sent), np.array(answered), np.array(version), np.array(verdict, dtype=np.uint8))


def main() -> None:
    port, connections, cases, result = sys.argv[1:]
    content = msgspec.msgpack.decode(Path(cases).read_bytes(), type=Cases)
    answers = asyncio.run(load(int(port), int(connections), content))
    np.savez(result, **answers._asdict())


if __name__ == "__main__":
    main()
