"""Logged predictions of one version beside those of another, for the same rows."""

from collections import Counter
from collections.abc import Iterator
from heapq import nlargest
from typing import Any, NamedTuple

import msgspec
import numpy as np

from app.codecs.categories import values_of
from app.codecs.json.row import Batch
from app.codecs.rules import BODY, FloatArray
from app.models.served import ServedModel
from app.outcomes.target import Target, target_of
from app.outcomes.window import figures_of
from app.prediction_log.arrow import text_of
from app.replay.report import Comparison, Differences, KnownOutcomes, Reason, WorstRow
from app.replay.rows import LoggedRow

WORST = 10
MOST_REASONS = 20
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Pair(NamedTuple):
    """A logged row and what another version predicts for it."""

    row: LoggedRow
    logged: float | list[float]
    replayed: float | list[float]
    difference: float


class Compared:
    """Rows that one version had answered, which are added page by page; only numbers of them are kept.

    Args:
        served: The version that they are replayed with.
        version: The version that answered.
    """

    def __init__(self, served: ServedModel, version: str) -> None:
        self._served = served
        self._version = version
        self._known = [feature.name for feature in served.artifact.features]
        self._booleans = [feature.name for feature in served.artifact.features if feature.kind == "boolean"]
        self._categories = {
            feature.name: {text_of(value): value for value in values_of(feature).values() if not isinstance(value, str)}
            for feature in served.artifact.features
            if feature.kind == "category"
        }
        self._target: Target = target_of(served)
        self._counts = Counter[str]()
        self._reasons = Counter[tuple[str, str]]()
        self._warnings = Counter[tuple[str, str]]()
        self._unused: dict[str, None] = {}
        self._differences: list[FloatArray] = []
        self._judged: list[tuple[float, float | list[float], float | list[float]]] = []
        self._worst: list[Pair] = []

    def add(self, rows: list[LoggedRow]) -> Iterator[Pair]:
        """Replay rows, and give those that both versions can predict."""
        self._counts["rows"] += len(rows)
        self._counts["without index"] += sum(row.row is None for row in rows)
        batch = self._decode(rows)
        self._note(batch)
        if not batch.positions:
            return
        replayed = self._served.engine.evaluate_on_cpu(batch.rows).prediction
        both = zip(batch.positions, replayed.tolist(), strict=True)
        pairs = [pair for position, prediction in both if (pair := self._paired(rows[position], prediction))]
        for pair in pairs:
            self._count(pair)
        self._differences.append(np.array([pair.difference for pair in pairs]))
        self._worst = nlargest(WORST, [*self._worst, *pairs], key=lambda pair: abs(pair.difference))
        yield from pairs

    def result(self) -> Comparison:
        """The comparison of all rows so far."""
        counts = self._counts
        return Comparison(
            logged_version=self._version,
            rows=counts["rows"],
            without_index=counts["without index"],
            compared=counts["compared"],
            identical=counts["identical"],
            not_taken=counts["not taken"],
            reasons=_reasons(self._reasons),
            warnings=_reasons(self._warnings),
            not_finite=counts["not finite"],
            other_outputs=counts["other outputs"],
            unused_features=tuple(self._unused),
            differences=_distribution(self._differences),
            with_interval=counts["with interval"],
            outside_interval=counts["outside interval"],
            outcomes=self._outcomes(),
            worst=tuple(_worst_row(pair) for pair in self._worst if pair.difference),
        )

    def _decode(self, rows: list[LoggedRow]) -> Batch:
        """The rows as the version reads those of a request, by the same rules."""
        given: list[dict[str, Any]] = [msgspec.json.decode(row.features) for row in rows]
        for features in given:
            for name in features.keys() - set(self._known):
                self._unused[name] = None
                del features[name]
            for name in self._booleans:  # which the log has as numbers
                if isinstance(value := features.get(name), float) and value in (0.0, 1.0):
                    features[name] = bool(value)
            for name, values in self._categories.items():  # which Parquet files have as text
                if isinstance(value := features.get(name), str):
                    features[name] = values.get(value, value)
        return self._served.codec.decode_batch(msgspec.json.encode({"predictions": given}), len(rows))

    def _note(self, batch: Batch) -> None:
        """Count rows that are not taken, and warnings about others."""
        self._counts["not taken"] += len(batch.errors)
        for errors in batch.errors.values():
            self._reasons.update((error.field, error.message) for error in errors)
        for warnings in batch.warnings.values():
            self._warnings.update((BODY, warning) for warning in warnings)

    def _paired(self, row: LoggedRow, prediction: float | list[float]) -> Pair | None:
        """A row with both predictions, or None where these cannot be compared."""
        if row.prediction is None or not np.isfinite(prediction).all():
            self._counts["not finite"] += 1
            return None
        if np.shape(row.prediction) != np.shape(prediction):
            self._counts["other outputs"] += 1
            return None
        return Pair(row, row.prediction, prediction, _difference(row.prediction, prediction))

    def _count(self, pair: Pair) -> None:
        row, prediction = pair.row, pair.replayed
        self._counts["compared"] += 1
        self._counts["identical"] += pair.logged == prediction
        if row.interval_lower is not None and row.interval_upper is not None and isinstance(prediction, float):
            self._counts["with interval"] += 1
            self._counts["outside interval"] += not row.interval_lower <= prediction <= row.interval_upper
        if row.actual is not None and self._target.kind != "none":
            actual = self._target.number(row.actual)
            if actual is not None:
                self._judged.append((actual, pair.logged, prediction))

    def _outcomes(self) -> KnownOutcomes | None:
        if not self._judged:
            return None
        actual, logged, replayed = (np.array(values, np.float64) for values in zip(*self._judged, strict=True))
        return KnownOutcomes(
            rows=len(actual),
            logged=figures_of(self._target, actual, logged),
            replayed=figures_of(self._target, actual, replayed),
        )


def _difference(logged: float | list[float], replayed: float | list[float]) -> float:
    """Replayed minus logged prediction; of several outputs, the one that differs most."""
    differences = np.atleast_1d(np.subtract(replayed, logged))
    return float(differences[np.abs(differences).argmax()])


def _distribution(parts: list[FloatArray]) -> Differences | None:
    differences = np.concatenate(parts) if parts else np.empty(0)
    if not len(differences):
        return None
    absolute = np.abs(differences)
    return Differences(
        mean=float(differences.mean()),
        mean_absolute=float(absolute.mean()),
        rms=float(np.sqrt(np.square(differences).mean())),
        largest=float(absolute.max()),
        quantiles=dict(zip(map(str, QUANTILES), np.quantile(differences, QUANTILES).tolist(), strict=True)),
    )


def _reasons(counts: Counter[tuple[str, str]]) -> tuple[Reason, ...]:
    return tuple(Reason(*reason, rows) for reason, rows in counts.most_common(MOST_REASONS))


def _worst_row(pair: Pair) -> WorstRow:
    row = pair.row
    return WorstRow(
        request_id=row.request_id,
        row=row.row,
        created_at=row.created_at,
        logged=pair.logged,
        replayed=pair.replayed,
        difference=pair.difference,
        actual=row.actual,
    )
