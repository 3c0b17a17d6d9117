"""Drift of all workers' rows: the leader counts for all, and the others tell it what they have counted.

Counts are of the bins of one reference, so those of several workers add up. While there is no reference, the others
tell the leader the rows themselves, from which it makes one.
"""

from collections.abc import Mapping

import numpy as np

from app.drift.monitor import DriftMonitor
from app.drift.tracker import Tracker
from app.drift.window import Added
from app.workers.messages import CollectedRows, CountedRows
from app.workers.team import Team, is_silent


class SharedDrift:
    """Tells the leader what drift detection has counted here, or counts what others tell.

    Args:
        team: The workers.
        monitors: Drift detection of each model, by name.
    """

    def __init__(self, team: Team, monitors: Mapping[str, DriftMonitor]) -> None:
        self._team = team
        self._monitors = monitors
        team.answer(CountedRows, self._add_counted)
        team.answer(CollectedRows, self._add_collected)
        for name, monitor in monitors.items():
            monitor.relay = lambda tracker, name=name: self._tell(name, tracker)

    def _tell(self, name: str, tracker: Tracker) -> None:
        leader = self._team.leader
        if self._team.leads or leader is None or is_silent(leader):
            return  # it goes on counting here
        model, taken = tracker.model, tracker.take()
        if isinstance(taken, Added):
            features, prediction = taken.features, taken.prediction
            leader.tell(
                CountedRows(
                    name=name,
                    version=model.version,
                    digest=model.digest,
                    reference=taken.reference,
                    rows=taken.rows,
                    features=features.tobytes(),
                    features_shape=features.shape,
                    prediction=prediction.tobytes(),
                    prediction_shape=prediction.shape,
                )
            )
        elif taken is not None:
            rows, predictions = taken
            leader.tell(
                CollectedRows(
                    name=name,
                    version=model.version,
                    digest=model.digest,
                    count=len(rows),
                    rows=rows.tobytes(),
                    predictions=predictions.tobytes(),
                )
            )

    async def _add_counted(self, told: CountedRows) -> None:
        features = np.frombuffer(told.features, dtype=np.int64).reshape(told.features_shape)
        prediction = np.frombuffer(told.prediction, dtype=np.int64).reshape(told.prediction_shape)
        self._monitors[told.name].add_counted(
            told.version, told.digest, Added(told.reference, told.rows, features, prediction)
        )

    async def _add_collected(self, told: CollectedRows) -> None:
        rows = np.frombuffer(told.rows).reshape(told.count, -1).copy()  # kernels are compiled for arrays to write to
        predictions = np.frombuffer(told.predictions).reshape(told.count, -1).copy()
        self._monitors[told.name].add_counted(told.version, told.digest, (rows, predictions))
