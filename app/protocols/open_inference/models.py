"""The model that a request of the protocol names: by its name, and by a version or none."""

from collections.abc import Iterable

from app.container import Services
from app.errors import NotFound
from app.models.served import ServedModel
from app.models.slot import ModelSlot


def model_of(
    name: str, version: str | None, services: Services, headers: Iterable[tuple[bytes, bytes]], request_id: str
) -> ServedModel:
    """The model that answers a request for predictions.

    Args:
        name: Name that the request gives.
        version: Version that it gives; None or an empty text for the one that the canary's rule chooses.
        services: Collaborators of the application.
        headers: Names in lower case, and values, by which the rule chooses.
        request_id: Id of the request, by which the rule chooses too.

    Raises:
        NotFound: No model of this name is served here, or no such version is in service.
        ModelUnavailable: No model is in use.
    """
    services = services.of(name)
    return _of_version(version, services.slot) if version else services.canary.choose(headers, request_id)


def described_model(name: str, version: str | None, services: Services) -> ServedModel:
    """The model that a request for a description means: without a version, the one in use.

    Raises:
        NotFound: As `model_of` does.
        ModelUnavailable: No model is in use.
    """
    slot = services.of(name).slot
    return _of_version(version, slot) if version else slot.require()


def models_in_service(slot: ModelSlot) -> tuple[ServedModel, ...]:
    """The models that answer requests: the one in use, then the canary; none while no model is in use."""
    if slot.current is None:
        return ()
    if slot.canary is None or slot.canary.identity.version == slot.current.identity.version:
        return (slot.current,)
    return slot.current, slot.canary


def _of_version(version: str, slot: ModelSlot) -> ServedModel:
    slot.require()
    models = models_in_service(slot)
    for served in models:
        if served.identity.version == version:
            return served
    versions = ", ".join(served.identity.version for served in models)
    raise NotFound(f"This version of the model is not in service. In service: {versions}.")
