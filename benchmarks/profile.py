"""Where the processor time of one-row requests goes, by thread of the server and by library.

    just bench profile [--seconds 10] [--connections 16] [--before REPORT.json]

Method: Madrone with the bundled model answers one row a request in a closed loop, with both logs and metrics on, while
Linux's `perf` samples its worker 999 times a second. A sample belongs to the library whose code was running: libpython
is the interpreter, code without a file the compiled kernels. The report of an earlier run, of another commit, goes
beside it with `--before`. Where perf is not installed (Debian: `apt-get install linux-perf`) or not allowed, this says
so and ends. The report goes to benchmarks/reports/profile.md and .json.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.bodies import ROW
from benchmarks.contenders import BUNDLED, Peer, running
from benchmarks.load.plan import Plan
from benchmarks.load.plan import running as loading
from benchmarks.report import Report, begin, context, parser, render, save
from benchmarks.rows import DISTINCT_ROWS, make_rows

DIFFERENT_REQUESTS = 256
WARM_UP_S = 2.0
LEAST_SHARE = 0.01
RATE = 999
LIBRARIES = {
    "/granian/": "Granian",
    "/uvloop/": "event loop (uvloop, asyncio)",
    "/_asyncio.": "event loop (uvloop, asyncio)",
    "/msgspec/": "msgspec",
    "/numpy": "NumPy",
    "libpython": "interpreter",
    "/bin/python": "interpreter",
    "[kernel": "kernel of Linux",
    "[unknown]": "compiled kernels",
    "/perf-": "compiled kernels",
    "[JIT]": "compiled kernels",
    "libc.so": "C library",
}
"""Part of a library's path, and its name in the report; the first that is found counts."""
PACKAGES = ("madrone", "granian", "uvloop", "msgspec", "numba")


def sample(pid: int, seconds: float, directory: Path) -> Counter[tuple[str, str]]:
    """Samples of a process, by thread and library (subprocess.CalledProcessError: perf is not allowed)."""
    data = directory / "perf.data"
    record = ["perf", "record", "-q", "-F", str(RATE), "-p", str(pid), "-o", str(data), "--", "sleep", str(seconds)]
    subprocess.run(record, check=True, capture_output=True)
    script = ["perf", "script", "-i", str(data), "-F", "comm,tid,ip,dso"]
    found = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    return counted(found, pid)


def counted(lines: str, pid: int) -> Counter[tuple[str, str]]:
    """Samples by thread and library, in lines of `perf script` such as `python 123 7f00 (/usr/lib/libpython3.so)`."""
    samples: Counter[tuple[str, str]] = Counter()
    for line in lines.splitlines():
        if found := re.match(r"\s*(.+?)\s+(\d+)\s+[0-9a-f]+ \((.*)\)$", line):
            name, thread, library = found.groups()
            samples[thread_of(name, int(thread), pid), library_of(library)] += 1
    return samples


def thread_of(name: str, thread: int, pid: int) -> str:
    if thread == pid:
        return "event loop"
    return "Granian's runtime" if name.startswith("tokio") else "other threads"


def library_of(path: str) -> str:
    return next((library for part, library in LIBRARIES.items() if part in path), "others")


def measure(peer: Peer, arguments: Any, directory: Path) -> dict[str, Any]:
    rows = make_rows(DISTINCT_ROWS, 3)
    requests = [ROW.request(rows[at : at + 1]) for at in range(DIFFERENT_REQUESTS)]
    seconds = WARM_UP_S + arguments.seconds + 1.0
    plan = Plan(port=peer.port, requests=requests, connections=arguments.connections, seconds=seconds)
    with loading(plan) as load:
        time.sleep(WARM_UP_S)
        worker = peer.worker()
        before = worker.cpu_times()
        samples = sample(worker.pid, arguments.seconds, directory)
        after = worker.cpu_times()
        record = load.record()
    assert record.ok().all()
    busy = after.user + after.system - before.user - before.system
    rate = len(record.due) / record.seconds
    total = samples.total()
    return {
        "requests_per_s": rate,
        "cpu_us": 1e6 * busy / arguments.seconds / rate,
        "samples": total,
        "generator_cpu": record.cpu_share,
        "shares": [
            {"thread": thread, "library": library, "share": count / total}
            for (thread, library), count in samples.most_common()
        ],
    }


def table(report: Report) -> list[dict[str, Any]]:
    """Rows of the page: the shares of this run and of that before, the largest first."""
    runs = [report["results"], *([report["before"]["results"]] if report.get("before") else [])]
    by_key = [{(one["thread"], one["library"]): one["share"] for one in run["shares"]} for run in runs]
    keys = sorted(set().union(*by_key), key=lambda key: -by_key[0].get(key, 0.0))
    rows = [(*key, [shares.get(key, 0.0) for shares in by_key]) for key in keys]
    return [
        {
            "thread": thread,
            "library": library,
            "shares": shares,
            "us": [share * run["cpu_us"] for share, run in zip(shares, runs, strict=True)],
        }
        for thread, library, shares in rows
        if max(shares) >= LEAST_SHARE
    ]


def page(report: Report) -> str:
    return render("profile", report, rows=table(report))


def main() -> None:
    options = parser(__doc__, quick="2 s")
    options.add_argument("--seconds", type=float, default=10.0, help="of samples")
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--before", type=Path, help="report of an earlier run, as JSON")
    arguments = begin(options)
    arguments.seconds = 2.0 if arguments.quick else arguments.seconds
    if shutil.which("perf") is None:
        sys.exit("perf is not installed, so there is no profile.")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with running(BUNDLED, directory, directory, arguments.cache) as peer:
            try:
                results = measure(peer, arguments, directory)
            except subprocess.CalledProcessError as error:
                sys.exit(f"perf ended with status {error.returncode}, so there is no profile.")
    report = context("profile", *PACKAGES) | {
        "connections": arguments.connections,
        "results": results,
        "before": None if arguments.before is None else json.loads(arguments.before.read_text()),
    }
    save("profile", report, page, arguments.reports)


if __name__ == "__main__":
    main()
