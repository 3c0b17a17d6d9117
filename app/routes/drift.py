"""Drift of the rows that are served: `/drift`."""

from typing import Any

import msgspec
from litestar import Request, get

from app.auth import has_key
from app.container import InjectedServices
from app.drift.report import ModelDrift, report
from app.outcomes.report import Performance
from app.problems import problem_responses


class DriftReport(ModelDrift, frozen=True, kw_only=True):
    """Drift of the rows that the model in use answered.

    Attributes:
        canary: The same for the canary; null while there is none.
        performance: Error of the versions in service, as in `/outcomes`; null for a request without API_KEY.
    """

    canary: ModelDrift | None = None
    performance: tuple[Performance, ...] | None = None


@get("/drift", tags=["drift"], summary="Report drift", responses=problem_responses(400, 503))
async def drift(services: InjectedServices, request: Request[Any, Any, Any]) -> DriftReport:
    """How far features and predictions of the last rows have shifted from the model's reference.

    Drift is not error: a model can be right about rows that are unlike its reference, and wrong about rows that are
    like it. `performance` is the error, where outcomes are known. 503 while no model is loaded.
    """
    services.slot.require()
    monitor = services.drift
    current, *canary = (report(tracker, monitor.window) for tracker in monitor.trackers())
    return DriftReport(
        **msgspec.structs.asdict(current),
        canary=canary[0] if canary else None,
        performance=services.outcomes.report.versions if has_key(request) else None,
    )
