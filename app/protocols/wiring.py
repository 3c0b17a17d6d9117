"""All protocols together: their routes, and their part of the OpenAPI document."""

from typing import Any

from litestar.types import ASGIApp

from app.container import Services
from app.models.served import ServedModel
from app.predict.scoring import Scorings
from app.protocols.kserve import routes as kserve
from app.protocols.kserve.handlers import kserve_routes
from app.protocols.mlflow import routes as mlflow
from app.protocols.mlflow.handlers import Invocations, invocation_routes
from app.protocols.open_inference.controller import OpenInferenceController
from app.protocols.open_inference.document import describe_inference
from app.protocols.open_inference.handler import Inference
from app.protocols.open_inference.repository import RepositoryController
from app.protocols.open_inference.unsupported import unsupported_routes


def prediction_routes(services: Services, scorings: Scorings) -> dict[str, ASGIApp]:
    """Routes that predict, by path: they are answered in front of Litestar."""
    invocations = {name: Invocations(scoring) for name, scoring in scorings.models.items()}
    return {
        **invocation_routes(scorings, invocations),
        **kserve_routes(scorings, invocations),
        **Inference(services, scorings).routes,
    }


def protocol_handlers() -> list[Any]:
    """Litestar's handlers of all other routes."""
    own = [
        mlflow.invocations,
        mlflow.named_invocations,
        mlflow.ping,
        mlflow.mlflow_version,
        kserve.KServeController,
        OpenInferenceController,
        RepositoryController,
    ]
    return [*own, *unsupported_routes()]


def describe_protocols(document: dict[str, Any], served: ServedModel | None, *, open_to_all: bool) -> None:
    """Add bodies to the protocols' routes in the OpenAPI document.

    Args:
        document: The document, which is changed.
        served: Model whose features define the schemas.
        open_to_all: Whether the prediction routes require no key.
    """
    mlflow.describe(document, served, open_to_all=open_to_all)
    kserve.describe(document, open_to_all=open_to_all)
    describe_inference(document, served, open_to_all=open_to_all)
