"""What one worker of several adds to an application: its part in the team, and what the leader does for all."""

from collections.abc import Callable, Mapping, Sequence

from app.drift.monitor import DriftMonitor
from app.predict.rate_limit import RateLimit
from app.tasks import BackgroundTasks
from app.telemetry.metrics import Metrics
from app.workers.counting import SharedDrift
from app.workers.following import Kept, SharedModels
from app.workers.rates import SharedRateLimit
from app.workers.scraping import SharedMetrics
from app.workers.team import Team


class Joint:
    """The part of this worker in a service with several.

    Args:
        team: The workers.

    Attributes:
        team: The workers.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self._models: SharedModels | None = None

    def share(
        self, models: Sequence[Kept], drift: Mapping[str, DriftMonitor], tasks: BackgroundTasks, metrics: Metrics
    ) -> None:
        """Share what is made by now: models, their drift, and the metrics of all workers."""
        SharedDrift(self.team, drift)
        self._models = SharedModels(self.team, models, tasks)
        metrics.share(SharedMetrics(self.team, metrics.registry))

    def rate_limit(self, limit: int) -> RateLimit:
        """A limit on the requests of a client in a minute, over all workers."""
        return SharedRateLimit(limit, self.team.place, self.team.size)

    async def begin(self, tasks: BackgroundTasks, lead: Callable[[], None]) -> None:
        """Join the others, and wait until this worker can take requests.

        Args:
            tasks: Background tasks of this worker.
            lead: Starts the tasks that one worker runs for all; called when this one begins to lead.
        """
        assert self._models is not None
        self.team.on_lead(lead)
        self.team.begin()
        tasks.start("workers", self._models.run)
        await self._models.may_begin()
        self.team.place.tell_ready()

    def end(self) -> None:
        """Begin nothing for others any more."""
        self.team.end()
        if self._models is not None:
            self._models.close()

    async def leave(self) -> None:
        """Leave the others, once nothing is asked of them any more."""
        await self.team.leave()
