"""Counts of the rows of one model version since it has a reference, and in the last seconds."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.drift.bins import Binned, Bins, bins_of_features, bins_of_prediction
from app.drift.profile import Profile
from app.feature import Feature

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

SLICES = 60
"""Slices of a window. It moves by one at a time, so it is longer than was asked for by up to one slice."""


class Counted(NamedTuple):
    """Rows of features and of predictions by bin."""

    features: Binned
    prediction: Binned


class Added(NamedTuple):
    """Rows that were counted against a reference.

    Attributes:
        reference: Digest of the reference.
        rows: Number of rows.
        features: Counts of the features, in the form of `Bins.zeros`.
        prediction: Those of the outputs.
    """

    reference: bytes
    rows: int
    features: Counts
    prediction: Counts


class _State(NamedTuple):
    """Counts at a time, in the form of `Bins.zeros`."""

    at: float
    rows: int
    features: Counts
    prediction: Counts


class WindowedCounts:
    """Rows by bin: all, and those of the window. Safe to use from several threads.

    The window is the difference between the counts now and those at its beginning, which are kept for each slice.

    Args:
        profile: The reference.
        features: The model's features.
        seconds: Length of the window.
        clock: Monotonic seconds; a test passes its own.

    Attributes:
        profile: The reference.
        features: Bins of the features.
        prediction: Bins of the outputs.
        reference: Digest of the reference.
    """

    def __init__(
        self, profile: Profile, features: Sequence[Feature], seconds: float, clock: Callable[[], float]
    ) -> None:
        self.profile = profile
        self.reference = hashlib.blake2b(msgspec.json.encode(profile), digest_size=16).digest()
        self.features: Bins = bins_of_features(profile, features)
        self.prediction: Bins = bins_of_prediction(profile)
        self._clock = clock
        self._slice = seconds / SLICES
        self._adding = threading.Lock()
        self._now = _State(clock(), 0, self.features.zeros(), self.prediction.zeros())
        self._begins: deque[_State] = deque([self._now], maxlen=SLICES + 1)

    def add(self, rows: Array, prediction: Array, *, in_thread: bool = False) -> None:
        """Count rows.

        Args:
            rows: float64[B, F].
            prediction: float64[B] or float64[B, K].
            in_thread: Whether to release the GIL meanwhile.
        """
        outputs = prediction.reshape(len(rows), -1)
        features = self.features.count(rows, in_thread=in_thread)
        predicted = self.prediction.count(outputs, in_thread=in_thread)
        with self._adding:
            self._advance()
            now = self._now
            self._now = _State(now.at, now.rows + len(rows), now.features + features, now.prediction + predicted)

    def take(self) -> Added:
        """The rows that were counted so far, which another process counts instead of this one."""
        with self._adding:
            now, at = self._now, self._clock()
            self._now = _State(at, 0, self.features.zeros(), self.prediction.zeros())
            self._begins = deque([self._now], maxlen=SLICES + 1)
        return Added(self.reference, now.rows, now.features, now.prediction)

    def add_counted(self, added: Added) -> None:
        """Add rows that another process has counted; those against another reference are passed over."""
        if added.reference != self.reference:
            return
        with self._adding:
            self._advance()
            now = self._now
            features, prediction = now.features + added.features, now.prediction + added.prediction
            self._now = _State(now.at, now.rows + added.rows, features, prediction)

    def total(self) -> Counted:
        """All rows that were counted."""
        return self._binned(self._now)

    def window(self) -> Counted:
        """The rows of the window."""
        with self._adding:
            self._advance()
            begin, now = self._begins[0], self._now
        all_rows, earlier = self._binned(now), self._binned(begin)
        return Counted(all_rows.features.minus(earlier.features), all_rows.prediction.minus(earlier.prediction))

    def _advance(self) -> None:
        """Begin a new slice if the last one is over, and forget those that are older than the window."""
        at = self._clock()
        if at - self._begins[-1].at >= self._slice:
            self._begins.append(self._now._replace(at=at))
        while len(self._begins) > 1 and at - self._begins[1].at >= SLICES * self._slice:
            self._begins.popleft()

    def _binned(self, state: _State) -> Counted:
        return Counted(
            self.features.binned(state.features, state.rows), self.prediction.binned(state.prediction, state.rows)
        )
