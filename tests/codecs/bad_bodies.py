"""Reads bad bodies in a process of its own, and prints its memory before and after them.

    python -m tests.codecs.bad_bodies COUNT

prints a JSON object: by name of a kind of body, the resident bytes after the first few and after COUNT more.
"""

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from app.codecs.compression import decompress
from app.errors import ServiceError
from tests.codecs.support import GOOD, NAMES, Array, arrow_stream, arrow_table, csv_lines, decode, parquet_file

FIRST = 200
LIMIT = 100_000
SPACES = b" " * (LIMIT - 1000)
ROWS: Array = np.tile(GOOD, (100, 1))
CODECS = dict(zip(NAMES, ("snappy", "gzip", "brotli", "lz4", "zstd"), strict=True))
"""Of a Parquet file's columns."""


def bad(whole: bytes, over_long: bytes = b"") -> Iterator[bytes]:
    """Truncated, corrupted and over-long copies of a body, without end."""
    random = np.random.default_rng(0)
    while True:
        yield whole[: random.integers(len(whole))]
        yield whole[:-1]
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(len(damaged), size=4)] ^= np.uint8(1 << random.integers(8))
        yield damaged.tobytes()
        yield whole + b"and more"
        yield over_long or whole


def cases() -> Iterator[tuple[str, Callable[[bytes], Any], Iterator[bytes]]]:
    """Name, reader and bodies of each kind."""
    twice = SPACES * 2
    yield "gzip", lambda body: decompress(body, "gzip", LIMIT, ""), bad(gzip.compress(SPACES), gzip.compress(twice))
    zstd = (pa.compress(plain, codec="zstd", asbytes=True) for plain in (SPACES, twice))
    yield "zstd", lambda body: decompress(body, "zstd", LIMIT, ""), bad(*zstd)
    table = arrow_table(ROWS)
    tables = {
        "arrow": arrow_stream(table, batch_rows=100),
        "csv": csv_lines(ROWS),
        "parquet": parquet_file(table, compression=CODECS, use_dictionary=False),
    }
    for name, body in tables.items():
        yield name, lambda body, name=name: decode(name, body), bad(body)


def main() -> None:
    """Read all of them."""
    process, seen = psutil.Process(), dict[str, tuple[int, int]]()
    for name, read, bodies in cases():
        resident: list[int] = []
        for count in (FIRST, int(sys.argv[1])):
            for body in islice(bodies, count):
                with suppress(ServiceError):
                    read(body)
            resident.append(process.memory_info().rss)
        seen[name] = resident[0], resident[1]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
