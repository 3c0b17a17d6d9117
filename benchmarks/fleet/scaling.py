"""Times of a fleet: until a new version answers everywhere, and until more replicas answer.

The autoscaler is Kubernetes' HorizontalPodAutoscaler with its defaults (kubernetes.io, "Horizontal Pod Autoscaling").
Within a second requests count as a fluid: what is not answered waits.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.1
"""A difference from the target that is smaller changes nothing."""
STABLE_S = 300
"""The number of replicas falls to the largest one wanted in that time."""


class Scaler(NamedTuple):
    """An autoscaler by processor use.

    Attributes:
        target: Use of a replica that it aims at, as a share of what one can answer.
        sync: Seconds between its decisions.
        lag: Seconds of the past that its figures are a mean of.
        pending: Seconds until a pod has a machine and its image.
        start: Seconds from there until it is ready.
        least: Fewest replicas.
        most: Most replicas.
    """

    target: float
    sync: int = 15
    lag: int = 30
    pending: float = 10.0
    start: float = 10.0
    least: int = 2
    most: int = 1_000_000

    @property
    def reaction(self) -> float:
        """Seconds from a sudden change of the load until new replicas answer, at worst."""
        return self.lag + self.sync + self.pending + self.start


class Course(NamedTuple):
    """Course of a fleet by second.

    Attributes:
        ready: int64[S], replicas that answer.
        wait: float64[S], seconds that a request waits.
        lost: float64[S], requests that find no connection.
    """

    ready: NDArray[np.int64]
    wait: NDArray[np.float64]
    lost: NDArray[np.float64]


def scaled(rates: NDArray[np.float64], per_replica: float, scaler: Scaler, most_waiting: int = 1024) -> Course:
    """Course of a fleet that begins with the replicas that the first second asks for.

    Args:
        rates: float64[S], requests a second.
        per_replica: Requests a second that one replica can answer.
        scaler: The autoscaler.
        most_waiting: Requests that wait in each replica; further ones are lost.
    """
    seconds = len(rates)
    ready, wait, lost = np.empty(seconds, np.int64), np.zeros(seconds), np.zeros(seconds)
    count = max(scaler.least, math.ceil(rates[0] / per_replica / scaler.target))
    arriving: list[tuple[int, int]] = []  # (second, replicas) that will be ready
    wanted: list[int] = []
    backlog = 0.0
    for now in range(seconds):
        while arriving and arriving[0][0] <= now:
            count += arriving.pop(0)[1]
        capacity = count * per_replica
        backlog = max(0.0, backlog + rates[now] - capacity)
        lost[now] = max(0.0, backlog - most_waiting * count)
        backlog -= lost[now]
        ready[now], wait[now] = count, backlog / capacity
        if now % scaler.sync:
            continue
        past = slice(max(0, now - scaler.lag), now + 1)
        # What a replica has used cannot be more than all of it, so that a steep rise is seen in steps.
        use = float(np.mean(np.minimum(1.0, rates[past] / (ready[past] * per_replica)) * ready[past])) / count
        coming = sum(number for _, number in arriving)
        is_near = abs(use / scaler.target - 1) <= TOLERANCE
        asked = count + coming if is_near else math.ceil(count * use / scaler.target)
        wanted = [*wanted, min(max(asked, scaler.least), scaler.most)][-(STABLE_S // scaler.sync) :]
        grown = min(wanted[-1], max(2 * (count + coming), count + coming + 4))
        if grown > count + coming:
            ahead = now + math.ceil(scaler.pending + scaler.start)
            arriving.append((ahead, grown - count - coming))
        elif not arriving:
            count = min(count, max(wanted))
    return Course(ready, wait, lost)


def use_before(times: float, ramp: float, reaction: float) -> float:
    """Largest use of a fleet that outlasts a growth of the load without new replicas for so long.

    Args:
        times: Load after the growth over that before.
        ramp: Seconds in which it grows, in a straight line.
        reaction: Seconds until new replicas answer.
    """
    return 1 / (1 + (times - 1) * min(1.0, reaction / max(ramp, 1e-9)))


def rolled_out(
    told: NDArray[np.float64], download: float, load: float, lanes: int = 1
) -> NDArray[np.float64]:  # fmt: skip
    """float64[N] seconds from a change until each replica answers with the new version, ascending.

    Args:
        told: float64[N], seconds until each knows of it.
        download: Seconds of the store of artifacts for one download.
        load: Seconds from a download to its model in service.
        lanes: Downloads that the store serves at once.
    """
    free = [0.0] * lanes
    ends: list[float] = []
    for at in np.sort(told).tolist():
        lane = min(range(lanes), key=free.__getitem__)
        free[lane] = max(at, free[lane]) + download
        ends.append(free[lane] + load)
    return np.sort(ends)


def in_waves(replicas: int, surge: float, ready: float, drain: float) -> float:
    """Seconds of a rolling update of pods that replaces a share `surge` of them at a time."""
    return math.ceil(replicas / max(1, math.floor(surge * replicas))) * (ready + drain)
