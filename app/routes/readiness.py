"""Readiness: whether predictions are answered now, of the whole service and of one model."""

import asyncio
import logging
from typing import Literal

import msgspec
import numpy as np

from app.container import Services
from app.models.served import ServedModel

READY_TIMEOUT_S = 1.0

log = logging.getLogger(__name__)


class Probe(msgspec.Struct, frozen=True):
    """Answer to a probe of an orchestrator."""

    status: Literal["live", "ready", "not ready"]
    reason: str | None = None


async def readiness(services: Services) -> Probe:
    """Whether the service takes requests, and each model in service answers a test prediction now.

    At the start it waits until each model has been looked for. A model of which no version can be served then leaves
    the service ready, as long as another one answers: it must not cost the others their requests.
    """
    models = services.models.values()
    if not services.shutdown.announced and any(one.slot.current is not None for one in models):
        for one in models:
            if one.slot.current is None and one.keeper.last_refresh is None:
                return Probe("not ready", f"model {one.name} has not been looked for yet")
    return await _probe(services, [one.slot.current for one in models if one.slot.current is not None])


async def model_readiness(services: Services, served: ServedModel | None = None) -> Probe:
    """The same of one model, by default of the version in use."""
    served = served or services.slot.current
    if served is None and services.slot.unloaded:
        return Probe("not ready", "the model is unloaded")
    return await _probe(services, [] if served is None else [served])


async def _probe(services: Services, models: list[ServedModel]) -> Probe:
    """Whether some models answer, and the service takes requests."""
    if services.shutdown.announced:
        return Probe("not ready", "the service is shutting down")
    if not models:
        return Probe("not ready", "no model is loaded")
    if not services.prediction_log.started:
        return Probe("not ready", "the prediction log is starting")
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            outputs = [await services.executor.check(served) for served in models]
    except TimeoutError:
        return Probe("not ready", f"no prediction within {READY_TIMEOUT_S:g} s")
    except Exception as error:
        log.exception("readiness probe failed")
        return Probe("not ready", f"the prediction failed: {type(error).__name__}")
    if not all(np.isfinite(output).all() for output in outputs):
        return Probe("not ready", "the model's prediction is not finite")
    return Probe("ready")
