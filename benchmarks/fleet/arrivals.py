"""Arrivals of requests: steady, in bursts, and over a day with a flash crowd."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400


class Bursts(NamedTuple):
    """Poisson arrivals whose rate changes between two values (a Markov-modulated Poisson process).

    Attributes:
        times: Rate in a burst over that between bursts.
        share: Share of the time that belongs to bursts.
        seconds: Mean length of a burst; lengths are exponential.
    """

    times: float = 3.0
    share: float = 0.1
    seconds: float = 0.5

    @property
    def calm(self) -> float:
        """Rate between bursts over the mean rate."""
        return 1 / (1 + self.share * (self.times - 1))

    @property
    def peak(self) -> float:
        """Rate in a burst over the mean rate."""
        return self.times * self.calm


class Crowd(NamedTuple):
    """A flash crowd: the rate grows in a straight line to `times` what it was, stays, and falls as it grew.

    Attributes:
        times: Rate at the top over the rate without the crowd.
        start: Seconds since midnight at which it begins to grow.
        ramp: Seconds until the top.
        stays: Seconds at the top.
    """

    times: float = 3.0
    start: float = 20 * 3600.0
    ramp: float = 60.0
    stays: float = 600.0


def poisson(rate: float, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """float64[count] seconds of Poisson arrivals at a rate a second."""
    return np.cumsum(generator.exponential(1 / rate, count))


def in_bursts(rate: float, count: int, bursts: Bursts, generator: np.random.Generator) -> NDArray[np.float64]:
    """float64[count] seconds of arrivals in bursts, `rate` a second in the mean, the first of them between bursts.

    Arrivals of a unit rate are stretched by the integral of the rate (the time change of a Poisson process).
    """
    calm_seconds = bursts.seconds * (1 - bursts.share) / bursts.share
    periods = 2 * max(10, int(2 * count / rate / (calm_seconds + bursts.seconds)) + 10)
    lengths = generator.exponential(1.0, periods) * np.tile([calm_seconds, bursts.seconds], periods // 2)
    rates = rate * np.tile([bursts.calm, bursts.peak], periods // 2)
    ends, expected = np.cumsum(lengths), np.cumsum(lengths * rates)
    arrivals = np.cumsum(generator.exponential(1.0, count))
    if arrivals[-1] > expected[-1]:
        raise ValueError(f"{periods} periods are too short for {count} arrivals")
    return np.interp(arrivals, np.concatenate([[0.0], expected]), np.concatenate([[0.0], ends]))


def day(mean: float, crowd: Crowd | None, swing: float = 0.6) -> NDArray[np.float64]:
    """float64[86400] requests a second over a day: a cosine with its top at 18 h, and a flash crowd on it.

    Args:
        mean: Mean of the day without the crowd.
        crowd: The flash crowd; None for none.
        swing: Difference between the top and the mean, over the mean.
    """
    at = np.arange(DAY_S)
    rates = mean * (1 + swing * np.cos(2 * np.pi * (at - 18 * 3600) / DAY_S))
    return rates if crowd is None else rates * crowded(at.astype(np.float64), crowd)


def crowded(at: NDArray[np.float64], crowd: Crowd) -> NDArray[np.float64]:
    """float64[N], how many times the usual rate there is at each second."""
    top = crowd.start + crowd.ramp
    corners = [crowd.start, top, top + crowd.stays, top + crowd.stays + crowd.ramp]
    return np.interp(at, corners, [1.0, crowd.times, crowd.times, 1.0])
