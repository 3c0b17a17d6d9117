"""Speed of the load generator beside wrk: whether a server or the generator is the limit of a measurement.

    just bench wrk [--rounds 7] [--seconds 2]

Method: both load the raw echo of `just bench http` in turns, round after round, with the same request over 1, 16 and 64
connections; wrk with one thread. The ratio is the median of the ratios within each round. Where wrk is not installed
(Debian: `apt-get install wrk`) this says so and ends. The report goes to benchmarks/reports/wrk.md and .json.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders import ECHO, Peer, running
from benchmarks.load.plan import Plan, load
from benchmarks.load.wrk import by_wrk
from benchmarks.report import Report, begin, context, parser, ratio, render, save, spread

CONNECTIONS = (1, 16, 64)
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


def by_generator(peer: Peer, connections: int, seconds: int) -> float:
    """Requests a second."""
    record = load(Plan(port=peer.port, requests=[REQUEST], connections=connections, seconds=seconds))
    assert record.ok().all()
    return len(record.due) / record.seconds


def measure(peer: Peer, connections: int, rounds: int, seconds: int) -> dict[str, object]:
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        ours.append(by_generator(peer, connections, seconds))
        theirs.append(by_wrk(peer, "/", connections, seconds).requests_per_s)
    return {"generator": spread(ours), "wrk": spread(theirs), "ratio": ratio(ours, theirs)}


def page(report: Report) -> str:
    return render("wrk", report)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=int, default=2, help="length of one measurement")
    arguments = begin(options)
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed, so the load generator is not compared with it.")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with running(ECHO, directory, directory, arguments.cache) as peer:
            found = {count: measure(peer, count, arguments.rounds, arguments.seconds) for count in CONNECTIONS}
    report = context("wrk", "granian") | {
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "connections": found,
    }
    save("wrk", report, page, arguments.reports)


if __name__ == "__main__":
    main()
