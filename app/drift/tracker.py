"""The rows of one model version: counted against its reference, or collected to make one."""

import threading
import time
from array import array
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.drift.profile import MAX_OUTPUTS, Profile, make_profile
from app.drift.window import Added, WindowedCounts
from app.feature import Feature

Array = NDArray[np.float64]

PENDING_ROWS = 256
"""Rows of small requests that are counted together: a call for each would take as long as the model itself."""

PENDING_VALUES = 65_536
"""Values in such rows at most, so that those of a wide model are not many megabytes."""

SMALL = 64
"""Rows of a request that is small."""


class WatchedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What drift detection knows of a model in service.

    Attributes:
        name: Name in the registry.
        version: Version in the registry.
        digest: Digest of the model's files.
        features: The features of a row, in the engine's order.
        outputs: Number of outputs.
        profile: The reference that came with the model.
        names: Names of the features that are watched where it came without.
    """

    name: str
    version: str
    digest: str
    features: tuple[Feature, ...]
    outputs: int
    profile: Profile | None
    names: tuple[str, ...]


class Options(NamedTuple):
    """How rows are watched.

    Attributes:
        window: Length of the window in seconds.
        baseline_rows: First rows served that make a reference where there is none; 0 for never.
        clock: Monotonic seconds; a test passes its own.
    """

    window: float
    baseline_rows: int
    clock: Callable[[], float] = time.monotonic


class Tracker:
    """Counts the rows of a model version.

    Rows are added on the event loop, or, if they are many, in a thread; any thread may flush.

    Args:
        model: The model.
        options: How its rows are watched.

    Attributes:
        model: The model.
        counts: Its counted rows; None while there is no reference.
    """

    def __init__(self, model: WatchedModel, options: Options) -> None:
        self.model = model
        self.counts: WindowedCounts | None = None
        self._single = array("d")  # rather than the rows themselves, whose memory is used again at once
        self._single_predictions = array("d")
        self._small: list[tuple[Array, Array]] = []
        self._small_rows = 0
        self._most_pending = max(1, min(PENDING_ROWS, PENDING_VALUES // len(model.features)))
        self._most_predictions = self._most_pending * model.outputs
        self._options = options
        self._flushing = threading.Lock()
        self._collecting = threading.Lock()
        self._baseline = _Baseline(model, options.baseline_rows)
        if model.profile is not None:
            self.refer_to(model.profile)

    @property
    def baseline_rows(self) -> int:
        """Rows that are collected for a reference."""
        return self._baseline.count

    def refer_to(self, profile: Profile) -> None:
        """Count from now on against a reference. Rows that were collected for another one are counted first."""
        counts = WindowedCounts(profile, self.model.features, self._options.window, self._options.clock)
        with self._collecting:
            collected, self._baseline = self._baseline, _Baseline(self.model, 0)
            if profile.source != "served" and collected.count:
                counts.add(*collected.whole_rows())
            self.counts = counts

    def served_profile(self) -> Profile | None:
        """Reference made from the first rows served; None while they are too few, or if there is one."""
        return self._baseline.profile() if self.counts is None and self._baseline.full else None

    def add_one(self, rows: Array, prediction: float | list[float]) -> None:
        """Note a single row.

        Args:
            rows: float64[1, F]; copied.
            prediction: Its prediction.
        """
        self._single.frombytes(rows.tobytes())
        if isinstance(prediction, list):
            self._single_predictions.extend(prediction)
        else:
            self._single_predictions.append(prediction)
        if len(self._single_predictions) >= self._most_predictions:
            self.flush()

    def add(self, rows: Array, prediction: Array) -> None:
        """Note the rows of a small request, or count those of another one.

        Args:
            rows: float64[B, F], B > 0.
            prediction: float64[B] or float64[B, K].
        """
        if len(rows) > SMALL:
            self.count(rows, prediction)
            return
        self._small.append((rows.copy(), prediction.copy()))  # they may be parts of a large body
        self._small_rows += len(rows)
        if self._small_rows >= self._most_pending:
            self.flush()

    def count(self, rows: Array, prediction: Array, *, in_thread: bool = False) -> None:
        """Count rows, or collect them for a reference.

        Args:
            rows: float64[B, F], B > 0.
            prediction: float64[B] or float64[B, K].
            in_thread: Whether to release the GIL meanwhile.
        """
        if (counts := self.counts) is None:
            with self._collecting:
                if (counts := self.counts) is None:
                    self._baseline.add(rows, prediction)
                    return
        counts.add(rows, prediction, in_thread=in_thread)

    def take(self) -> Added | tuple[Array, Array] | None:
        """What was counted or collected so far, which another process counts instead of this one; None for nothing.

        Returns:
            Rows by bin; or, without a reference, float64[B, F] rows and float64[B, K] predictions.
        """
        self.flush()
        with self._collecting:
            if self.counts is None:
                collected = self._baseline.whole_rows() if self._baseline.count else None
                self._baseline = _Baseline(self.model, self._options.baseline_rows)
                return collected
        added = self.counts.take()
        return added if added.rows else None

    def flush(self) -> None:
        """Count the rows of small requests."""
        with self._flushing:
            # Removed from the same objects, to which the event loop may append meanwhile: a row before its prediction.
            width, outputs = len(self.model.features), self.model.outputs
            if count := len(self._single_predictions) // outputs:
                rows, predictions = self._single[: count * width], self._single_predictions[: count * outputs]
                del self._single[: count * width], self._single_predictions[: count * outputs]
                self.count(np.frombuffer(rows).reshape(count, -1), np.frombuffer(predictions).reshape(count, -1))
            if count := len(self._small):
                rows, arrays = zip(*self._small[:count], strict=True)
                del self._small[:count]
                self._small_rows = 0
                self.count(np.concatenate(rows), np.concatenate(arrays))


class _Baseline:
    """First rows served of a model without a reference; only of the columns that are watched.

    Args:
        model: The model.
        most: Rows to collect.
    """

    def __init__(self, model: WatchedModel, most: int) -> None:
        self.count = 0
        self._model = model
        self._most = most
        self._places = [place for place, feature in enumerate(model.features) if feature.name in model.names]
        self._rows: list[Array] = []
        self._predictions: list[Array] = []

    @property
    def full(self) -> bool:
        return 0 < self._most <= self.count

    def add(self, rows: Array, prediction: Array) -> None:
        room = self._most - self.count
        if room > 0:
            self._rows.append(rows[:room, self._places])  # by a list of places: a copy
            outputs = prediction[:room].reshape(len(self._rows[-1]), -1)
            self._predictions.append(outputs[:, :MAX_OUTPUTS].copy())
            self.count += len(outputs)

    def whole_rows(self) -> tuple[Array, Array]:
        """The rows with NaN in the columns that are not watched, and their predictions."""
        rows = np.full((self.count, len(self._model.features)), np.nan)
        rows[:, self._places] = np.concatenate(self._rows)
        return rows, np.concatenate(self._predictions)

    def profile(self) -> Profile:
        features = [self._model.features[place] for place in self._places]
        return make_profile(features, np.concatenate(self._rows), np.concatenate(self._predictions), "served")
