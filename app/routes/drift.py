"""Drift of the rows that are served: `/drift`."""

import msgspec
from litestar import get

from app.container import InjectedServices
from app.drift.report import ModelDrift, report
from app.problems import problem_responses


class DriftReport(ModelDrift, frozen=True, kw_only=True):
    """Drift of the rows that the model in use answered.

    Attributes:
        canary: The same for the canary; null while there is none.
    """

    canary: ModelDrift | None = None


@get("/drift", tags=["drift"], summary="Report drift", responses=problem_responses(503))
async def drift(services: InjectedServices) -> DriftReport:
    """How far features and predictions of the last rows have shifted from the model's reference.

    Drift is not error: a model can be right about rows that are unlike its reference, and wrong about rows that are
    like it. 503 while no model is loaded.
    """
    services.slot.require()
    monitor = services.drift
    current, *canary = (report(tracker, monitor.window) for tracker in monitor.trackers())
    return DriftReport(**msgspec.structs.asdict(current), canary=canary[0] if canary else None)
