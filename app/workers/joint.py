"""What one worker of several adds to an application: its part in the team, and what the leader does for all."""

from collections.abc import Callable, Sequence

from app.tasks import BackgroundTasks
from app.telemetry.metrics import Metrics
from app.workers.following import Kept, SharedModels
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

    def share(self, models: Sequence[Kept], tasks: BackgroundTasks, metrics: Metrics) -> None:
        """Share models, and the metrics of all workers, once they are made."""
        self._models = SharedModels(self.team, models, tasks)
        metrics.share(SharedMetrics(self.team, metrics.registry))

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

    def end(self) -> None:
        """Begin nothing for others any more."""
        self.team.end()
        if self._models is not None:
            self._models.close()

    async def leave(self) -> None:
        """Leave the others, once nothing is asked of them any more."""
        await self.team.leave()
