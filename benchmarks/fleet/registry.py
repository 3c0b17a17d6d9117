"""Look-ups of many replicas in one registry: planned ones, those after a webhook, and those after an outage.

A replica looks at its start and then plans the next look as app/models/refresh/keeper.py does: `ttl` seconds after an
answer, a share of it sooner at random; after a failure 1, 2, 4 … 60 s, a fifth more or less at random, and `ttl` at
most. The registry answers one look after the other. A look without an answer after MODEL_LOOKUP_TIMEOUT has failed,
although the registry still works on it.
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from app.models.refresh.keeper import FIRST_RETRY_S, LONGEST_RETRY_S

RETRY_JITTER = 0.2


class Looks(NamedTuple):
    """Replicas that look into a registry.

    Attributes:
        replicas: Number of replicas.
        ttl: MODEL_CACHE_TTL in seconds.
        jitter: Share of `ttl` by which a planned look may be sooner.
        starts_within: Seconds in which all replicas start, evenly.
        before: Seconds of a look before the registry is asked, such as the start of the model process.
        answer: Seconds of the registry for one look.
        timeout: MODEL_LOOKUP_TIMEOUT in seconds.
        outages: Times from and to which the registry refuses connections.
        changes: Times at which another version is to be served.
        delivery: Seconds in which a webhook of a change reaches all replicas, evenly; None for no webhook.
    """

    replicas: int
    ttl: float
    jitter: float = 0.0
    starts_within: float = 1.0
    before: float = 0.0
    answer: float = 0.0
    timeout: float = 10.0
    outages: Sequence[tuple[float, float]] = ()
    changes: Sequence[float] = ()
    delivery: float | None = None

    @property
    def mean(self) -> float:
        """Looks a second in the long run, while all is well."""
        return self.replicas / (self.ttl * (1 - self.jitter / 2) + self.before + self.answer)

    @property
    def busy(self) -> float:
        """Share of the registry's time that the looks take."""
        return self.mean * self.answer


class Asked(NamedTuple):
    """Looks by second.

    Attributes:
        by_second: int64[S], looks that reached the registry or were refused by it.
        failed: Looks that failed.
        told: float64[M], seconds from each change until each replica knows of it.
    """

    by_second: NDArray[np.int64]
    failed: int
    told: NDArray[np.float64]


def simulate(looks: Looks, seconds: int, seed: int = 1) -> Asked:
    """Looks of all replicas in the first so many seconds."""
    generator = np.random.default_rng(seed)
    planned = generator.uniform(0, looks.starts_within, looks.replicas).tolist()
    delays = [FIRST_RETRY_S] * looks.replicas
    known = [0] * looks.replicas
    plan = [(at, replica, False) for replica, at in enumerate(planned)]
    for change in looks.changes if looks.delivery is not None else ():
        arrivals = generator.uniform(change, change + looks.delivery, looks.replicas).tolist()
        plan += [(at, replica, True) for replica, at in enumerate(arrivals)]
    heapq.heapify(plan)
    by_second, free, failed, told = np.zeros(seconds, np.int64), 0.0, 0, list[float]()
    while plan and plan[0][0] < seconds:
        now, replica, is_webhook = heapq.heappop(plan)
        if not is_webhook and now != planned[replica]:
            continue  # a webhook came before it, and the next look was planned anew
        asks = now + looks.before
        if asks < seconds:
            by_second[int(asks)] += 1
        is_away = any(start <= asks < end for start, end in looks.outages)
        if not is_away:
            free = max(free, asks) + looks.answer
        if is_away or free - asks > looks.timeout:
            failed += 1
            spread = generator.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
            ended = asks if is_away else asks + looks.timeout
            pause, delays[replica] = min(looks.ttl, delays[replica] * spread), min(2 * delays[replica], LONGEST_RETRY_S)
        else:
            ended, pause, delays[replica] = free, looks.ttl * generator.uniform(1 - looks.jitter, 1.0), FIRST_RETRY_S
            while known[replica] < len(looks.changes) and looks.changes[known[replica]] <= asks:
                told.append(ended - looks.changes[known[replica]])
                known[replica] += 1
        planned[replica] = ended + pause
        heapq.heappush(plan, (planned[replica], replica, False))
    return Asked(by_second, failed, np.array(told))


def even_peak(rate: float, seconds: float) -> int:
    """Most looks in any of so many seconds, if replicas look independently of each other: a quantile of Poisson."""
    return int(poisson.ppf(1 - 1 / max(2.0, seconds), rate))


def herd_peak(looks: Looks, number: int) -> int:
    """Most looks in any second when all replicas, which started together, have their planned look of this number.

    The times of a look add up from those before it. They begin as wide as the starts, or as the registry's answers to
    all of them. The first jitter spreads them evenly over `jitter * ttl`; more make them about normal, with variance
    (jitter * ttl)² / 12 for each. Where herds overlap, the mean is left. It holds as long as the registry answers all
    within `timeout`.
    """
    start, width = max(looks.starts_within, looks.replicas * looks.answer), looks.jitter * looks.ttl
    deviation = math.sqrt((start**2 + number * width**2) / 12)
    even = 1 / max(start, width if number == 1 else 0.0, 1.0)
    densest = min(even, 1 / (math.sqrt(2 * math.pi) * deviation)) if number > 1 else even
    return even_peak(max(looks.mean, looks.replicas * densest), math.sqrt(12) * deviation)
