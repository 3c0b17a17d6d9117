"""MLflow's routes for the OpenAPI document, and those that Litestar answers: `/ping` and `/version`."""

from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from app.auth import KEY_SCHEME
from app.codecs.json.types import json_schema
from app.container import InjectedServices
from app.models.served import ServedModel
from app.problems import PROBLEM_STATUSES, MlflowError
from app.protocols.mlflow.frames import INPUTS, INSTANCES, RECORDS, SPLIT
from app.protocols.mlflow.handlers import MEDIA_TYPES, PATH
from app.protocols.mlflow.params import CONTRIBUTIONS, LEAVES

MLFLOW_VERSION = version("mlflow")

STATUSES = tuple(status for status in PROBLEM_STATUSES if status != 422)
"""Statuses of the errors of a scoring request."""

MOST_LABELS = 1000
"""Most labels that are listed."""

REF = "#/components/schemas/"


class Predictions(msgspec.Struct, frozen=True):
    """Answer to a scoring request.

    Attributes:
        predictions: What MLflow's pyfunc predicts for each row: a number, a list of numbers, or a label.
    """

    predictions: list[Any]


@get(
    "/ping",
    tags=["mlflow"],
    summary="Tell whether a model is loaded",
    media_type="application/json",
    responses={404: ResponseSpec(bytes, description="No model is loaded", generate_examples=False)},
)
async def ping(services: InjectedServices) -> Response[bytes]:
    """An empty line; 404 while no model is loaded."""
    return Response(b"\n", status_code=404 if services.slot.current is None else 200, media_type="application/json")


@get("/version", tags=["mlflow"], summary="Tell MLflow's version", media_type="application/json")
async def mlflow_version() -> Response[bytes]:
    """The version of the MLflow that is installed here, as bare text."""
    return Response(MLFLOW_VERSION.encode(), media_type="application/json")


@post(
    PATH,
    status_code=200,
    security=[{KEY_SCHEME: []}],
    tags=["mlflow"],
    summary="Predict rows in MLflow's formats",
    responses={status: ResponseSpec(MlflowError, generate_examples=False) for status in (*STATUSES, 501)},
)
async def invocations() -> Predictions:
    """Predict rows as MLflow's scoring server does.

    Columns may be in any order. Others are ignored, as are other fields of the body. Of `params` two are read: with
    `pred_contrib` each prediction is the list of the contributions of the booster's features and the base value, and
    with `pred_leaf` the list of the leaves that the row reaches, both as LightGBM gives them.
    """
    raise NotImplementedError


@post(f"{PATH}/{{model:str}}", status_code=200, include_in_schema=False)
async def named_invocations(model: FromPath[str]) -> None:
    """Predict rows by the model of a name; `app.routes.named` describes it."""
    raise NotImplementedError


def describe(document: dict[str, Any], served: ServedModel | None, *, open_to_all: bool) -> None:
    """Add the bodies of the model in use to the operations of an OpenAPI document.

    Args:
        document: The document, changed in place.
        served: The model. Without one, the schemas allow any object.
        open_to_all: Whether the prediction routes require no key.
    """
    schemas = document["components"]["schemas"]
    schemas["ScoringRow"] = _row(served)
    schemas["ScoringRequest"] = {"oneOf": [_format(name, part) for name, part in _parts().items()]}
    operation = document["paths"][PATH]["post"]
    if open_to_all:
        del operation["security"]
    content: dict[str, Any] = {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES}
    content[MEDIA_TYPES[0]] = {"schema": {"$ref": f"{REF}ScoringRequest"}}
    if served is not None and served.artifact.example is not None:
        content[MEDIA_TYPES[0]]["example"] = {RECORDS: [served.artifact.example]}
    for path in ("/ping", "/version"):  # MLflow calls JSON what is none
        for response in document["paths"][path]["get"]["responses"].values():
            response["content"] = {MEDIA_TYPES[0]: {}}
    operation["requestBody"] = {"required": True, "content": content}
    if served is not None:
        lists = {"type": "array", "items": {"type": "number"}, "description": "Contributions or leaves."}
        schemas["Predictions"]["properties"]["predictions"]["items"] = {"anyOf": [_prediction(served), lists]}


def _row(served: ServedModel | None) -> dict[str, Any]:
    schema = json_schema(served.artifact.features) if served else {"type": "object"}
    return schema | {"additionalProperties": True}


def _prediction(served: ServedModel) -> dict[str, Any]:
    """Schema of what is given for a row."""
    if served.labels is not None and served.artifact.predict_fn != "predict_proba":
        return {"enum": list(served.labels)} if len(served.labels) <= MOST_LABELS else {}
    if served.labels is not None or served.artifact.forest.n_outputs > 1:
        return {"type": "array", "items": {"type": "number"}}
    return {"type": "number"}


def _parts() -> dict[str, dict[str, Any]]:
    """Schema of the value of each format."""
    rows = {"type": "array", "items": {"$ref": f"{REF}ScoringRow"}, "minItems": 1}
    lists = {"type": "array", "items": {"type": "array"}}
    columns = {"type": "object", "additionalProperties": {"type": "array"}}
    split = {
        "type": "object",
        "properties": {"columns": {"type": "array", "items": {"type": "string"}}, "data": lists, "index": {}},
        "required": ["data"],
        "additionalProperties": False,
    }
    inputs = {"anyOf": [rows, columns, lists]}
    return {SPLIT: split, RECORDS: rows, INSTANCES: inputs, INPUTS: inputs}


_PARAMS = {
    "anyOf": [{"type": "object", "properties": {name: {"type": "boolean"} for name in (CONTRIBUTIONS, LEAVES)}}, {}]
}


def _format(name: str, part: dict[str, Any]) -> dict[str, Any]:
    params = {"properties": {param: {"type": "boolean"} for param in (CONTRIBUTIONS, LEAVES)}}
    return {"type": "object", "properties": {name: part, "params": params}, "required": [name]}
