"""Drift of the rows that are served: `/drift`."""

from typing import Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath

from app.auth import has_key
from app.container import InjectedServices, Services
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
    return _report(services, request)


@get(
    "/drift/{model:str}", tags=["drift"], summary="Report drift of a model", responses=problem_responses(400, 404, 503)
)
async def named_drift(services: InjectedServices, request: Request[Any, Any, Any], model: FromPath[str]) -> DriftReport:
    """The same for the model of a name."""
    return _report(services.of(model), request)


def _report(services: Services, request: Request[Any, Any, Any]) -> DriftReport:
    services.slot.require()
    monitor = services.drift
    current, *canary = (report(tracker, monitor.window) for tracker in monitor.trackers())
    return DriftReport(
        **msgspec.structs.asdict(current),
        canary=canary[0] if canary else None,
        performance=_performance(services) if has_key(request) else None,
    )


def _performance(services: Services) -> tuple[Performance, ...]:
    return tuple(one for one in services.outcomes.report.versions if one.model_name == services.name)
