"""How many rows a second are read from the prediction log: NDJSON and Parquet, from SQLite and PostgreSQL.

    python -m benchmarks.log_export [--rows 200000] [--rounds 3] [--postgres URL]

Writes benchmarks/reports/log_export.md. The rows are those of a model with eight features. Each figure is the median
of the rounds, of one export at a time in this process, without HTTP.
"""

import argparse
import asyncio
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.prediction_log.database import LogDatabase
from app.prediction_log.messages import LoggedPredictions, LoggedRequest, LogTarget
from app.prediction_log.reading import export
from app.prediction_log.reading.query import query_of
from app.prediction_log.reading.reader import Encode, LogReader

REPORT = Path(__file__).parent / "reports" / "log_export.md"
NAMES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")
PIECE = 5_000
FORMATS: dict[str, Encode] = {"NDJSON": export.ndjson, "Parquet": export.parquet}


def fill(target: LogTarget, count: int) -> None:
    """Log requests of one row."""
    generator, database = np.random.default_rng(1), LogDatabase(target)
    for start in range(0, count, PIECE):
        made = LoggedPredictions(("houses", "1"), NAMES, 1, calibration=(0.9, 2.0, 0.1), key_id="2bb80d53")
        for number in range(start, min(start + PIECE, count)):
            row, outputs = generator.normal(size=8), generator.normal(size=2)
            request = LoggedRequest(f"{number:032x}", "single", time.time(), 1, 0.5)
            made.add(request, row.tobytes(), outputs[:1].tobytes(), np.abs(outputs[1:]).tobytes())
        database.write([made])
    database.close()


async def rate(target: LogTarget, encode: Encode, count: int) -> tuple[float, int]:
    """Rows a second of one export of all rows, and the size of its largest part."""
    reader, largest = LogReader(target, enabled=True), 0
    begun = time.perf_counter()
    async for part in reader.export(query_of(f"limit={count}".encode(), export=True), encode):
        largest = max(largest, len(part))
    seconds = time.perf_counter() - begun
    reader.close()
    return count / seconds, largest


def measured(name: str, target: LogTarget, count: int, rounds: int) -> list[str]:
    fill(target, count)
    lines: list[str] = []
    for form, encode in FORMATS.items():
        runs = [asyncio.run(rate(target, encode, count)) for _ in range(rounds)]
        rates = [speed for speed, _ in runs]
        lines.append(
            f"| {name} | {form} | {statistics.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {max(size for _, size in runs) / 1024:,.0f} KiB |"
        )
    return lines


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", help="SQLAlchemy URL of an empty database")
    parser.add_argument("--report", type=Path, default=REPORT)
    given = parser.parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        places = {"SQLite": LogTarget(f"sqlite:///{directory}/predictions.db", 10**9)}
        if given.postgres:
            places["PostgreSQL"] = LogTarget(given.postgres, 10**9)
        for name, target in places.items():
            lines += measured(name, target, given.rows, given.rounds)
    given.report.write_text(
        "# Export of the prediction log\n\n"
        f"{given.rows:,} rows of eight features, median and range of {given.rounds} exports, one at a time, made by\n"
        f"`python -m benchmarks.log_export` on {datetime.now(UTC):%Y-%m-%d} "
        f"({platform.machine()}, Python {platform.python_version()}).\n\n"
        "| database | format | rows a second | range | largest part in memory |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
