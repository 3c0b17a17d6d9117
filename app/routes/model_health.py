"""The model in use, its canary and shadow, and what the registry last said: `/health/model`."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from app.container import Services
from app.models.disk.store import StoreStatus
from app.models.loader import Stage
from app.models.outcome import Refresh
from app.models.registry.source import FALLBACK, REMAINING, LookUp
from app.models.served import NotFinite
from kernels.engine import EngineStatus

Status = Literal["healthy", "degraded", "unhealthy"]


class RolloutHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The canary, or the shadow.

    Attributes:
        alias: Where it is looked for.
        percent: Of the requests.
        version: In service; None while there is none.
        not_finite: See `ModelHealth`.
        last_refresh: What came of the last look; None while there is nothing under the alias that is not in use.
    """

    alias: str
    percent: float
    version: str | None
    digest: str | None
    not_finite: tuple[NotFinite, ...]
    last_refresh: Refresh | None


SLOW_STAGE_S = 30.0
"""Beyond it, a stage of a load is a problem worth a look; a model as most are takes a few seconds for all of them."""


class LoadHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A load that is under way.

    Attributes:
        version: Of the registry.
        stage: What is done now.
        seconds: Since that began.
    """

    version: str
    stage: Stage
    seconds: float


class ModelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The model in use and what the keeper saw last.

    Attributes:
        not_finite: Rows to which the model has no finite answer, so that they get an error, if any were found when it
            was loaded. This is the model's way and no problem of the service, whose status it leaves alone.
        stale: The registry has not answered since the model came into service, or when it was last asked.
        age_seconds: Since the registry last answered.
        next_look_seconds: Until it is asked again; None while it is being asked.
        pinned: The version that an operator pinned.
        loading: The version that is being loaded.
        look_ups: Where a model was looked for in the last look that was answered, and why what was found there was
            passed over.
        store: The models kept on disk.
    """

    status: Status
    name: str
    version: str | None
    stage: str | None
    aliases: tuple[str, ...]
    digest: str | None
    resolved_by: str | None
    loaded_at: datetime | None
    load_seconds: float | None
    engine: EngineStatus | None
    not_finite: tuple[NotFinite, ...]
    stale: bool
    age_seconds: float | None
    next_look_seconds: float | None
    pinned: str | None
    loading: LoadHealth | None
    look_ups: tuple[LookUp, ...]
    canary: RolloutHealth | None
    shadow: RolloutHealth | None
    store: StoreStatus
    last_refresh: Refresh | None
    last_refusal: Refresh | None


def model_health(services: Services, *, in_detail: bool) -> ModelHealth:
    """What is known of it now.

    Args:
        services: Of the app.
        in_detail: Whether to repeat what the registry said of itself, which is for the operator alone.
    """
    show: Callable[[Refresh | None], Refresh | None] = _as_it_is if in_detail else _for_anybody
    served, keeper, refresher = services.slot.current, services.keeper, services.refresher
    freshness = services.slot.freshness()
    return ModelHealth(
        status="unhealthy" if served is None else "degraded" if model_problems(services) else "healthy",
        name=services.settings.model_name,
        version=served and served.identity.version,
        stage=served and served.identity.stage,
        aliases=served.identity.aliases if served else (),
        digest=served and served.artifact.digest,
        resolved_by=served and served.resolved_by,
        loaded_at=served and served.loaded_at,
        load_seconds=served and served.load_seconds,
        engine=served and served.engine.status(),
        not_finite=served.not_finite if served else (),
        stale=freshness is not None and freshness.stale,
        age_seconds=freshness and freshness.age,
        next_look_seconds=keeper.next_look(),
        pinned=services.slot.pinned,
        loading=_loading(services),
        look_ups=refresher.look_ups,
        canary=_rollout(services, "canary", show),
        shadow=_rollout(services, "shadow", show),
        store=services.store.status(),
        last_refresh=show(keeper.last_refresh),
        last_refusal=show(refresher.last_refusal),
    )


def model_problems(services: Services) -> list[str]:
    """What is wrong with the model in use or its followers, a sentence each."""
    refreshes = {"model refresh": services.keeper.last_refresh, **services.refresher.rollout}
    problems = [
        f"{named}: {refresh.outcome}: {refresh.reason}"
        for named, refresh in refreshes.items()
        if refresh is not None and refresh.reason is not None
    ]
    served = services.slot.current
    if served is not None and served.resolved_by.startswith((FALLBACK, REMAINING)):
        problems.append(
            f"version {served.identity.version} is served from {served.resolved_by}, "
            f"not from stage {services.settings.model_stage}"
        )
    if (loading := _loading(services)) is not None and loading.seconds > SLOW_STAGE_S:
        problems.append(f"version {loading.version} is being loaded ({loading.stage}) since {loading.seconds:.0f} s")
    if (error := services.store.status().last_error) is not None:
        problems.append(f"the model in use cannot be kept on disk: {error}")
    return problems


def _as_it_is(refresh: Refresh | None) -> Refresh | None:
    return refresh


def _for_anybody(refresh: Refresh | None) -> Refresh | None:
    return refresh and refresh.for_anybody()


def _loading(services: Services) -> LoadHealth | None:
    if (loading := services.refresher.loading) is None:
        return None
    seconds = time.monotonic() - loading.since
    return LoadHealth(version=loading.version, stage=loading.stage, seconds=seconds)


def _rollout(
    services: Services, role: Literal["canary", "shadow"], show: Callable[[Refresh | None], Refresh | None]
) -> RolloutHealth | None:
    settings = services.settings
    alias, percent, served = (
        (settings.model_canary_alias, settings.model_canary_percent, services.slot.canary)
        if role == "canary"
        else (settings.model_shadow_alias, settings.model_shadow_percent, services.slot.shadow)
    )
    if alias is None:
        return None
    return RolloutHealth(
        alias=alias,
        percent=percent,
        version=served and served.identity.version,
        digest=served and served.artifact.digest,
        not_finite=served.not_finite if served else (),
        last_refresh=show(services.refresher.rollout.get(role)),
    )
