"""The prediction routes by a model's name in the OpenAPI document: what a model takes, its own description says."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from app.predict.handlers import NAMED_PATH, PATH
from app.problems import MlflowError, Problem
from app.protocols.mlflow import handlers as mlflow
from app.routes.predict import ENDS

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

PATHS = {PATH + end: NAMED_PATH + end for end in ENDS} | {mlflow.PATH: mlflow.NAMED_PATH}
"""Path by a name of each path without one."""


def describe_named(document: dict[str, Any], generated: dict[str, Any], names: Sequence[str]) -> None:
    """Add the routes by a model's name to the OpenAPI document, and the names to all routes that have one.

    Args:
        document: The document, changed in place, which has the same routes without a name.
        generated: The document without what is known of the first model.
        names: Names of the models; empty where they are not known.
    """
    name = {"name": "model", "in": "path", "required": True, "schema": {}, "description": "Name of a model."}
    for path, named in PATHS.items():
        plain = generated["paths"][path]["post"]
        operation = deepcopy(document["paths"][path]["post"])
        operation |= {
            "summary": f"{plain['summary']} by a model's name",
            "operationId": f"{plain['operationId']}ByName",
            "parameters": [deepcopy(name), *operation.get("parameters", [])],
        }
        if len(names) != 1:  # what it takes is known of the first model only
            operation["parameters"][1:] = deepcopy(plain.get("parameters", []))
            operation["requestBody"]["content"][JSON] = {"schema": {"type": "object"}}
            answers = operation["responses"]["200"]["content"]
            operation["responses"]["200"]["content"] = answers | ({JSON: {"schema": {}}} if JSON in answers else {})
        media, schema = (JSON, MlflowError) if path == mlflow.PATH else (PROBLEM_JSON, Problem)
        error = {media: {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}}
        operation["responses"]["404"] = {"description": "Not Found", "content": error}
        document["paths"][named] = {"post": operation}
    for operation in (operation for item in document["paths"].values() for operation in item.values()):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path" and parameter["name"] in ("model", "model_name"):
                parameter["schema"] = {"type": "string"} | ({"enum": list(names)} if names else {})
