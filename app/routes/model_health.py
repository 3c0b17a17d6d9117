"""Report on the model in use, its canary and shadow, and the last look into the registry: `/health/model`."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from app.container import Services
from app.models.disk.store import StoreStatus
from app.models.refresh.outcome import Refresh
from app.models.registry.source import LookUp
from app.models.served import NotFinite
from app.routes.reasons import LoadHealth, Status, loading, model_reasons, status_of
from kernels.engine import EngineStatus


class RolloutHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Health of the canary or the shadow.

    Attributes:
        alias: Alias of its version in the registry.
        percent: Share of the requests that it gets.
        version: Version that is loaded; None while there is none.
        not_finite: See `ModelHealth`.
        last_refresh: Outcome of the last look; None while the alias names no other version than the model in use.
    """

    alias: str
    percent: float
    version: str | None
    digest: str | None
    not_finite: tuple[NotFinite, ...]
    last_refresh: Refresh | None


class ModelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Health of the model in use, and of its updates from the registry.

    Attributes:
        source: Whether versions come from a registry, or from MODEL_PATH without one.
        not_finite: Rows without a finite prediction that were found when the model was loaded; such rows get an error.
            They are a property of the model and do not change the status of the service.
        stale: Whether the registry failed to answer the last look, or has not answered since the model was loaded.
        age_seconds: Time since the last answer of the registry.
        next_look_seconds: Time until the next look; None during a look.
        pinned: Version pinned by an operator.
        loading: Load in progress.
        look_ups: Places of the last successful look, and the reasons why their versions were skipped.
        store: Models kept on disk.
    """

    status: Status
    source: Literal["registry", "path"]
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
    """The current health of the model.

    Args:
        services: Collaborators of the application.
        in_detail: Whether to include error texts of the registry, which only the operator may read.
    """
    show: Callable[[Refresh | None], Refresh | None] = _as_it_is if in_detail else _for_anybody
    served, keeper, refresher = services.slot.current, services.keeper, services.refresher
    freshness = services.slot.freshness()
    return ModelHealth(
        status="unhealthy" if served is None else status_of(model_reasons(services)),
        source="registry" if services.settings.place is None else "path",
        name=services.name,
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
        loading=loading(services),
        look_ups=refresher.look_ups,
        canary=_rollout(services, "canary", show),
        shadow=_rollout(services, "shadow", show),
        store=services.store.status(),
        last_refresh=show(keeper.last_refresh),
        last_refusal=show(refresher.last_refusal),
    )


def _as_it_is(refresh: Refresh | None) -> Refresh | None:
    return refresh


def _for_anybody(refresh: Refresh | None) -> Refresh | None:
    return refresh and refresh.for_anybody()


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
