"""KServe's routes for the OpenAPI document, and those that Litestar answers: the models and their state."""

from typing import Any

import msgspec
from litestar import Controller, get
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from app.auth import KEY_SCHEME
from app.container import InjectedServices
from app.problems import InferenceError
from app.protocols.kserve.handlers import PATH
from app.protocols.mlflow.routes import REF, STATUSES


class ModelNames(msgspec.Struct, frozen=True):
    """Names of the models that are served."""

    models: tuple[str, ...]


class ModelReady(msgspec.Struct, frozen=True):
    """State of a model."""

    name: str
    ready: bool


class KServeController(Controller):
    """Routes that tell of the model."""

    path = "/v1/models"
    tags = ("kserve",)

    @get("/", summary="List the models")
    async def list_models(self, services: InjectedServices) -> ModelNames:
        """The names of the models, in the order of MODEL_NAMES."""
        return ModelNames(tuple(services.models))

    @get(
        "/{model_name:str}",
        summary="Tell whether a model is ready",
        responses={
            404: ResponseSpec(InferenceError, description="No such model", generate_examples=False),
            503: ResponseSpec(InferenceError, description="No model is loaded", generate_examples=False),
        },
    )
    async def model_ready(self, services: InjectedServices, model_name: FromPath[str]) -> ModelReady:
        """Name and state of the model; 503 while no model is loaded."""
        services.of(model_name).slot.require()
        return ModelReady(model_name, ready=True)


def describe(document: dict[str, Any], *, open_to_all: bool) -> None:
    """Add the prediction route to an OpenAPI document: Litestar knows no path with text behind a parameter.

    Args:
        document: The document, changed in place, which has the schemas of MLflow's routes.
        open_to_all: Whether the prediction routes require no key.
    """
    formats = document["components"]["schemas"]["ScoringRequest"]["oneOf"]
    document["components"]["schemas"]["KServeRequest"] = {"oneOf": formats[2:]}
    parameter: dict[str, Any] = {
        "name": "model_name", "in": "path", "required": True, "schema": {"type": "string"},
        "description": "Name of the model.",
    }  # fmt: skip
    error = {"application/json": {"schema": {"$ref": f"{REF}InferenceError"}}}
    responses: dict[str, Any] = {
        str(status): {"description": "Error", "content": error} for status in (*STATUSES, 404) if status != 415
    }
    responses["200"] = {
        "description": "Predictions", "content": {"application/json": {"schema": {"$ref": f"{REF}Predictions"}}},
    }  # fmt: skip
    operation: dict[str, Any] = {
        "tags": ["kserve"],
        "summary": "Predict rows in KServe's formats",
        "operationId": "KServePredict",
        "parameters": [parameter],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": f"{REF}KServeRequest"}}}},
        "responses": responses,
    }
    if not open_to_all:
        operation["security"] = [{KEY_SCHEME: []}]
    document["paths"][PATH] = {"post": operation}
