"""The schemas of Kubernetes, of the Prometheus operator and of KServe, as judges of manifests."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

NEWEST = kubernetes_validate.latest_version()
OLDEST = "1.27"
"""Versions of Kubernetes that manifests are for."""


def check(document: Any, version: str = NEWEST) -> None:
    """Raise an error unless a schema takes the document, with all of its keys."""
    schema = custom_resources().get((document["kind"], document["apiVersion"]))
    if schema is None:
        kubernetes_validate.validate(document, version, strict=True)
    else:
        assert document.keys() == {"kind", "apiVersion", "metadata", "spec"}
        schema.validate(document["spec"])


@cache
def custom_resources() -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    """Judges of the specifications of custom resources, which take no key that they do not name."""
    text = Path(__file__).with_name("custom_resources.yaml").read_text()
    return {
        (one["kind"], one["apiVersion"]): jsonschema.Draft202012Validator(closed(one["spec"]))
        for one in yaml.safe_load_all(text)
    }


def closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` wherever it names properties, as the API server is strict."""
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    if found.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    return found
