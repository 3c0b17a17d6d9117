"""A scrape that reaches any worker answers the series of all.

Each worker writes its series to a file when it is asked to, and a scrape reads the files of all. So what grows only
never shrinks: the file of a worker that hangs or has ended still has what it had counted at the last scrape, whoever
answers that and the next. Nothing is written between scrapes.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from app.workers.link import LinkLost
from app.workers.messages import Done, DumpMetrics
from app.workers.sums import Dump, Key, families_of, is_cumulative, less, merged, rule_of
from app.workers.team import ANSWER_S, Team

FRESH_S = 2.0
"""Age of a file up to which its worker counts as one that answers."""

PAST = "metrics-past"
"""File with the sums of workers that have ended."""

log = logging.getLogger(__name__)


class SharedMetrics:
    """The series of all workers, as a source of metrics for a thread.

    Args:
        team: The workers.
        registry: The series of this one.
    """

    def __init__(self, team: Team, registry: CollectorRegistry) -> None:
        self._team = team
        self._registry = registry
        self._directory = team.place.directory
        self._path = self._directory / f"metrics-{team.place.index}-{os.getpid()}-{secrets.token_hex(4)}"
        self._before: dict[Key, float] = {}
        self._reading = threading.Lock()
        self._decoder = msgspec.msgpack.Decoder(Dump)
        team.on_lead(self._begin_to_lead)
        team.answer(DumpMetrics, self._dump_for_other)

    def collect(self) -> Iterable[Metric]:
        """All families of the service. Blocks for a second where a worker does not answer; not on the event loop."""
        loop = self._team.loop
        if loop is not None and loop.is_running():
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                asyncio.run_coroutine_threadsafe(self._have_dumped(), loop).result(2 * ANSWER_S)
        self._dump()
        with self._reading:
            return self._merged()

    async def _have_dumped(self) -> None:
        """Have all other workers write their series."""
        if self._team.leads:
            await self._team.ask_members(DumpMetrics(), Done)
            return
        with contextlib.suppress(LinkLost):
            await self._team.ask_leader(DumpMetrics(), Done, 1.5 * ANSWER_S)

    async def _dump_for_other(self, _: DumpMetrics) -> Done:
        others = asyncio.create_task(self._have_dumped()) if self._team.leads else None
        await asyncio.to_thread(self._dump)
        if others is not None:
            await others
        return Done()

    def _begin_to_lead(self) -> None:
        """From now on the leader's series are this worker's: what it has counted in them so far counts as nothing."""
        self._before = {
            series.key: series.value
            for family in families_of(self._registry.collect(), leads=True)
            if rule_of(family.name) == "leader" and is_cumulative(family.kind)
            for series in family.series
            if series.value
        }

    def _dump(self) -> None:
        leads = self._team.leads
        families = less(families_of(self._registry.collect(), leads=leads), self._before)
        _write(self._path, Dump(at=time.monotonic(), pid=os.getpid(), leads=leads, families=families))

    def _merged(self) -> list[Metric]:
        past, dumps = self._read()
        now = time.monotonic()
        runs = {name: _is_running(dump.pid) for name, dump in dumps.items()}
        here = {name: runs[name] and now - dump.at <= FRESH_S for name, dump in dumps.items()}
        ended = [name for name in dumps if not runs[name]]
        order = sorted(dumps, key=lambda name: (not dumps[name].leads, name))
        found = [*(dumps[name] for name in order), *([] if past is None else [past])]
        metrics = merged(found, [*(here[name] for name in order), *([] if past is None else [False])])
        if ended and self._team.leads:
            self._fold(past, {name: dumps[name] for name in ended})
        answering = sum(here.values())
        text = "Worker processes of the service, by whether they answered this scrape."
        family = GaugeMetricFamily("workers", text, labels=("state",))
        family.add_metric(("answering",), answering)
        family.add_metric(("missing",), max(0, self._team.size - answering))
        return [*metrics, family]

    def _read(self) -> tuple[Dump | None, dict[str, Dump]]:
        """Sums of workers that have ended, and what the files of all others hold."""
        dumps: dict[str, Dump] = {}
        for path in sorted(self._directory.glob("metrics-*")):
            if "." not in path.name:
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    dumps[path.name] = self._decoder.decode(path.read_bytes())
        past = dumps.pop(PAST, None)
        for name in () if past is None else past.folded:
            dumps.pop(name, None)  # it is part of the past already, and could not be deleted
        return past, dumps

    def _fold(self, past: Dump | None, ended: dict[str, Dump]) -> None:
        """Make the files of ended workers part of the past, so that there are never many."""
        before = () if past is None else (past,)
        dumps = [*before, *ended.values()]
        metrics = [metric for metric in merged(dumps, [False] * len(dumps)) if is_cumulative(metric.type)]
        left = tuple(name for name in (() if past is None else past.folded) if (self._directory / name).exists())
        families = families_of(metrics, leads=True)
        _write(
            self._directory / PAST,
            Dump(at=0.0, pid=None, leads=False, families=families, folded=(*left, *ended)),
        )
        for name in ended:
            with contextlib.suppress(OSError):
                (self._directory / name).unlink()


def _write(path: Path, dump: Dump) -> None:
    """Replace a file, which is whole at any moment; it need not outlive the machine."""
    incoming = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        incoming.write_bytes(msgspec.msgpack.encode(dump))
        incoming.replace(path)
    except OSError as error:
        incoming.unlink(missing_ok=True)
        log.warning("metrics cannot be shared with other workers", extra={"error": type(error).__name__})


def _is_running(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
