"""How many replicas a rate of requests needs, what they ask of a registry, and how long a fleet takes to change.

    just bench capacity [--costs FILE] [--p99 10] [--seconds 4] [--quick]

Method: first the costs of one replica are measured here: for how long one row keeps the event loop, its distribution
and what stalls it; a bulk request; a look into a real `mlflow server`; starts. `--costs` takes them from the report of
an earlier run instead, on another machine for example. From the costs, fleets of any size are computed: request by
request behind balancers (benchmarks/fleet/replicas.py), look by look in front of a registry (registry.py), second by
second under a crowd and an autoscaler (scaling.py), each beside a formula where there is one.

What is measured here is compared with a computation: latencies of one process that has a core for itself, and of four
processes that share all cores with their load generators (cores.py), at rates that use 30 to 85 % of the cores; looks
of the four in the log of the registry; and a rollout. Load comes in an open loop from a generator for each process;
latency counts from when a request was due. With `--costs` nothing is measured.

The report goes to benchmarks/reports/capacity.md, .json and .png; with `--quick` to the cache.
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np

from app.config.settings import Settings
from app.models.registry.publish import publish
from benchmarks.bodies import ROW
from benchmarks.contenders import MODEL_NAME, running, wait_ready
from benchmarks.fleet import check, costs, planning
from benchmarks.fleet.costs import Costs
from benchmarks.fleet.starts import Replicas
from benchmarks.load.closed_loop import asked
from benchmarks.pages.capacity import page, picture
from benchmarks.report import begin, context, parser, save
from benchmarks.rows import DISTINCT_ROWS, make_rows, train_model
from benchmarks.swap import REGISTRY

PACKAGES = ("madrone", "granian", "litestar", "mlflow", "numba")


def measure(arguments: argparse.Namespace, directory: Path) -> tuple[Costs, dict[str, Any]]:
    """The costs, and what is computed from them beside what is measured."""
    model = train_model(arguments.cache)
    rows = make_rows(DISTINCT_ROWS, 3)
    expected = np.asarray(lgb.Booster(model_file=model / "model.lgb").predict(rows, num_threads=1))
    with ExitStack() as stack:
        registry = stack.enter_context(running(REGISTRY, model, directory, arguments.cache))
        settings = Settings(mlflow_tracking_uri=registry.url)
        first, second = (
            publish(settings, model, name=MODEL_NAME, params={}, metrics={}, tags={}) for _ in range(2)
        )  # fmt: skip
        replicas = Replicas(registry, model, directory, arguments.cache)
        with ExitStack() as quiet:
            starts, peer = replicas.starts()
            quiet.callback(peer.stop)
            what = asked(peer, ROW, rows, expected, 1)
            row = costs.measure_row(peer, what, arguments.seconds)
            bulk = costs.measure_bulk(peer, arguments.seconds)
            look = costs.measure_look(peer, registry, (second, first), arguments.seconds)
            found = Costs(row, bulk, look, starts)
            print(f"one row {1e6 * row.loop_s:.0f} µs, {row.saturation_per_s:.0f} requests/s", flush=True)
            latencies = check.latency([peer], what, found, arguments.seconds, apart=True)
            peers = [peer, *(replicas.start(str(number)) for number in range(1, check.REPLICAS))]
            for other in peers[1:]:
                quiet.callback(other.stop)
                wait_ready(other)
            latencies += check.latency(peers, what, found, arguments.seconds, apart=False)
        looking = [replicas.start(name, check.TTL) for name in ("first", *map(str, range(1, check.REPLICAS)))]
        for other in looking:
            stack.callback(other.stop)
        for other in looking:
            wait_ready(other)
        check.settle(looking)
        looked = check.looks(registry, found, int(6 * arguments.seconds))
        rolled = check.rollout(looking, registry, (second, first), found, arguments.moves)
    return found, {"latency": latencies, "looks": looked, "rollout": rolled}


def planned(found: Costs, p99_ms: float) -> dict[str, Any]:
    """All that is computed from the costs."""
    return {
        "replicas": planning.replicas(found, p99_ms),
        "by_use": planning.by_use(found),
        "by_size": planning.by_size(found),
        "looks": planning.looks(found),
        "outages": planning.outages(found),
        "rollouts": planning.rollouts(found),
        "room": planning.room(found),
        "days": planning.days(found),
    }


def main() -> None:
    options = parser(__doc__, quick="loads of a second, two moves of the alias")
    options.add_argument("--costs", type=Path, help="JSON of an earlier report, whose costs are taken")
    options.add_argument("--p99", type=float, default=10.0, help="ms in which 99 %% of the answers are to come")
    options.add_argument("--seconds", type=float, default=4.0, help="length of a load")
    options.add_argument("--moves", type=int, default=5, help="of the alias, in the rollout that is measured")
    arguments = begin(options)
    if arguments.quick:
        arguments.seconds, arguments.moves = 1.0, 2
    if arguments.costs is not None:
        earlier = msgspec.json.decode(arguments.costs.read_bytes())
        found, checked = msgspec.convert(earlier["costs"], Costs), earlier.get("check")
    else:
        with tempfile.TemporaryDirectory() as directory:
            found, checked = measure(arguments, Path(directory))
        kept = {"costs": msgspec.to_builtins(found), "check": checked}
        (arguments.cache / "capacity.json").write_text(json.dumps(kept))  # for --costs
    report = context("capacity", *PACKAGES) | {
        "p99_ms": arguments.p99,
        "seconds": arguments.seconds,
        "costs": msgspec.to_builtins(found),
        "check": checked,
        "plan": planned(found, arguments.p99),
    }
    save("capacity", report, page, arguments.reports, {"capacity": picture})


if __name__ == "__main__":
    main()
