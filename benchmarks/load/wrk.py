"""Loads a server with wrk, which takes less of the processors than any generator in Python."""

import json
import re
import subprocess
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from benchmarks.bodies import JSON, ROW, content_of
from benchmarks.contenders import Peer
from benchmarks.rows import make_rows

ONE_ROW = content_of(ROW.request(make_rows(1, 3)))


class Load(NamedTuple):
    """What a server did under load.

    Attributes:
        requests_per_s: Requests answered a second.
        cpu_us: Microseconds of processor time a request, of the process that answers.
    """

    requests_per_s: float
    cpu_us: float


def by_wrk(peer: Peer, path: str, connections: int, seconds: int, body: bytes | None = None) -> Load:
    """Load a server with the same request again and again, from one thread.

    Args:
        peer: The server.
        path: Route.
        connections: Connections, each of which waits for its answer.
        seconds: Length of the measurement.
        body: JSON to post; None for a GET.
    """
    worker = peer.worker()
    with NamedTemporaryFile("w", suffix=".lua") as script:
        if body is not None:
            # Strings of JSON are strings of Lua, as long as they are ASCII.
            script.write(f'wrk.method = "POST"\nwrk.body = {json.dumps(body.decode())}\n')
            script.write(f'wrk.headers["Content-Type"] = "{JSON}"\n')
            script.flush()
        options = [f"--connections={connections}", "--threads=1", f"--duration={seconds}s", f"--script={script.name}"]
        before = worker.cpu_times()
        done = subprocess.run(["wrk", *options, f"{peer.url}{path}"], capture_output=True, text=True, check=True)
        after = worker.cpu_times()
    answered, rate = re.search(r"(\d+) requests in", done.stdout), re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert answered, done.stdout
    assert rate, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    busy = after.user + after.system - before.user - before.system
    return Load(float(rate[1]), 1e6 * busy / int(answered[1]))
