"""The OpenAPI document, with the request schemas of the model in use, and its pages in Swagger UI and Redoc.

Litestar generates the document from the handlers. Only the model knows the features of a request, so their schemas are
added at each request for the document. Swagger UI and Redoc are served from an installed package, without a CDN.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from litestar import Request, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin, RedocRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.static_files import create_static_files_router

from app.auth import KEY_SCHEME
from app.codecs.formats import FORMATS
from app.codecs.json.row import BATCH_ID_LENGTH
from app.codecs.json.types import value_schema
from app.config.settings import Settings
from app.container import Services
from app.models.served import ServedModel
from app.predict.explain.curve import MOST_POINTS, POINTS
from app.predict.query import most_features
from app.protocols.wiring import describe_protocols
from app.routes.health import ReloadOrder
from app.routes.named import describe_named
from app.routes.outcomes import describe_outcomes

ASSETS_PACKAGE = "fastapi_standalone_docs"
ASSETS_PATH = "/docs/assets"
JSON = "application/json"
MOST_LABELS = 1000
"""Most labels that are listed."""

_ANY_ROW = {
    "description": "A row that is not valid fails alone.",
    "anyOf": [{"$ref": "#/components/schemas/Features"}, {}],
}

NO_ICON = "<link rel='icon' href='data:,'>"


class _Router(Router):
    """Litestar's documentation router without its catch-all page, so that unknown paths are answered as problems."""

    def register(self, value: Any) -> Any:
        if isinstance(value, HTTPRouteHandler) and "/{path:str}" in value.paths:
            return []
        return super().register(value)


class _ModelSchemas:
    """Mixin for render plugins that adds the schemas of the model in use to the document."""

    @staticmethod
    def render_json(request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        services: Services = request.app.state.services
        described = document(
            openapi_schema, services.slot.current, list(services.models), open_to_all=services.settings.api_key is None
        )
        content = OpenAPIRenderPlugin.render_json(request, described)
        # The pages have the document inside a <script>, which no description may end.
        return content.replace(b"<", b"\\u003c")


class _Json(_ModelSchemas, JsonRenderPlugin):
    pass


class _Swagger(_ModelSchemas, SwaggerRenderPlugin):
    pass


class _Redoc(_ModelSchemas, RedocRenderPlugin):
    pass


def openapi_config(settings: Settings) -> OpenAPIConfig:
    """Configuration of /openapi.json and, in debug mode, /docs and /redoc."""
    plugins: list[OpenAPIRenderPlugin] = [_Json(path="/openapi.json")]
    if settings.api_debug:
        plugins += [
            _Swagger(
                path="/docs",
                js_url=f"{ASSETS_PATH}/swagger/swagger-ui-bundle.js",
                css_url=f"{ASSETS_PATH}/swagger/swagger-ui.css",
                standalone_preset_js_url="data:text/javascript,",  # its top bar only loads other documents
                favicon=NO_ICON,
            ),
            _Redoc(
                path="/redoc", js_url=f"{ASSETS_PATH}/redoc/redoc.standalone.js", google_fonts=False, favicon=NO_ICON
            ),
        ]
    return OpenAPIConfig(
        title="Madrone",
        version=settings.api_version,
        description="Predictions of a LightGBM model.",
        render_plugins=plugins,
        use_handler_docstrings=True,
        components=Components(
            security_schemes={KEY_SCHEME: SecurityScheme(type="apiKey", security_scheme_in="header", name="X-API-Key")}
        ),
        openapi_router=_Router("/", route_handlers=[], include_in_schema=False),
    )


def assets_router() -> Router:
    """Router for the scripts and styles of /docs and /redoc, from the package that contains them."""
    # The package is only located, not imported: it is made for another framework, and only its files are used.
    spec = importlib.util.find_spec(ASSETS_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{ASSETS_PACKAGE} is not installed, and /docs needs its files")
    directory = Path(spec.origin).parent / "static"
    return create_static_files_router(path=ASSETS_PATH, directories=[directory], include_in_schema=False)


def document(
    openapi: dict[str, Any], served: ServedModel | None, names: Sequence[str] = (), *, open_to_all: bool
) -> dict[str, Any]:
    """The OpenAPI document with the request bodies and interval levels of the prediction routes.

    Args:
        openapi: Document generated by Litestar; it is not changed.
        served: First model, whose features define the schemas. Without a model the schemas allow any object.
        names: Names of the models; empty where they are not known.
        open_to_all: Whether the prediction routes require no key.
    """
    result = _with_plain_tuples(openapi)  # a deep copy
    schemas: dict[str, Any] = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Features"] = served.codec.json_schema() if served else {"type": "object"}
    schemas["BatchRequest"] = {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": _ANY_ROW, "minItems": 1},
            "batch_id": {"type": ["string", "null"], "maxLength": BATCH_ID_LENGTH},
        },
        "required": ["predictions"],
        "additionalProperties": False,
    }
    schemas["CurveRequest"] = {
        "type": "object",
        "properties": {
            "row": {"$ref": "#/components/schemas/Features"},
            "feature": {"enum": list(served.feature_names)} if served else {"type": "string"},
            "points": {"type": "integer", "minimum": 2, "maximum": MOST_POINTS, "default": POINTS},
        },
        "required": ["row", "feature"],
        "additionalProperties": False,
    }
    schemas["Table"] = _table(served)
    example = served.artifact.example if served else None
    tables = {name: {"schema": {"type": "string", "format": "binary"}} for name in FORMATS}
    bodies: dict[str, dict[str, Any]] = {
        "/predict": {JSON: _body("Features", example)},
        "/predict/explain": {JSON: _body("Features", example)},
        "/predict/curve": {JSON: _body("CurveRequest", example and {"row": example, "feature": next(iter(example))})},
        "/predict/batch": {JSON: _body("BatchRequest", example and {"predictions": [example]})},
        "/predict/bulk": tables | {JSON: _body("Table", example and {"rows": [example]})},
    }
    for path, content in bodies.items():
        operation = result["paths"][path]["post"]
        operation["requestBody"] = {"required": True, "content": content}
        if open_to_all:
            del operation["security"]
        if served is not None:
            _set_choices(operation, served)
    (order,), components = msgspec.json.schema_components((ReloadOrder,), ref_template="#/components/schemas/{name}")
    schemas |= components
    for path in ("/health/model/reload", "/health/model/{model}/reload"):
        result["paths"][path]["post"]["requestBody"] = {"content": {JSON: {"schema": order}}}
    result["paths"]["/predict/bulk"]["post"]["responses"]["200"]["content"] = tables | {
        JSON: {"schema": {"$ref": "#/components/schemas/PredictionTable"}}
    }
    schemas["PredictionTable"] = {
        "type": "object",
        "properties": {
            "columns": {
                "type": "object",
                "properties": {"label": {"type": "array", "items": {"type": ["string", "number", "boolean"]}}},
                "additionalProperties": {"type": "array", "items": {"type": "number"}},
            },
            "model_version": {"type": "string"},
        },
        "required": ["columns", "model_version"],
    }
    if served is not None:
        _set_labels(schemas, served)
    describe_outcomes(result, open_to_all=open_to_all)
    describe_protocols(result, served, open_to_all=open_to_all)
    describe_named(result, openapi, names)
    return result


def _set_choices(operation: dict[str, Any], served: ServedModel) -> None:
    """List what can be requested: interval levels, outputs, numbers of features; without intervals, no interval."""
    intervals, outputs = served.artifact.intervals, list(served.outputs)
    most = most_features(served)
    has_top = any(parameter["name"] == "top" for parameter in operation["parameters"])
    for parameter in [*operation["parameters"]]:
        schema = parameter["schema"]
        match parameter["name"]:
            case "interval" if intervals is None:
                operation["parameters"].remove(parameter)
            case "interval":
                schema["enum"] = list(intervals.levels) if intervals else []
            case "output":
                schema["enum"] = outputs
            case "explain":
                flag, count = {"enum": ["false", "true"]}, {"type": "integer", "minimum": 1, "maximum": most}
                parameter["schema"] = {"anyOf": [flag, count]} if has_top else flag
            case "top":
                schema["maximum"] = most
            case _:
                pass


def _set_labels(schemas: dict[str, Any], served: ServedModel) -> None:
    """List the labels of the model; without labels, remove their field."""
    for name in ("PredictionResponse", "PredictedItem"):
        fields = schemas[name]["properties"]
        if served.labels is None:
            del fields["label"]
        elif len(served.labels) <= MOST_LABELS:
            fields["label"] = {"enum": list(served.labels)}


def _with_plain_tuples(node: Any) -> Any:
    """A copy of a part of the document, in which tuples of one type are arrays of a fixed length.

    Litestar writes only their `prefixItems`. These limit neither the length nor further items, and tools without JSON
    Schema 2020-12 ignore them.
    """
    if isinstance(node, list):
        return [_with_plain_tuples(part) for part in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    result = {key: _with_plain_tuples(part) for key, part in cast(dict[str, Any], node).items()}
    items: list[Any] = result.get("prefixItems", [])
    if items and all(item == items[0] for item in items):
        del result["prefixItems"]
        result |= {"items": items[0], "minItems": len(items), "maxItems": len(items)}
    return result


def _table(served: ServedModel | None) -> dict[str, Any]:
    """The layouts of a table in JSON, as `app.codecs.json.table` reads them."""
    features = served.artifact.features if served else ()
    values = [value_schema(feature) for feature in features]
    required = [feature.name for feature in features if feature.required]
    columns = {feature.name: {"type": "array", "items": value} for feature, value in zip(features, values, strict=True)}
    row = {"type": "array", "prefixItems": values, "minItems": len(values), "maxItems": len(values)}
    names = {"type": "array", "items": {"enum": [feature.name for feature in features]}, "uniqueItems": True}
    layouts: dict[str, dict[str, Any]] = {
        "rows": {"type": "array", "items": {"$ref": "#/components/schemas/Features"}},
        "columns": {"type": "object", "properties": columns, "required": required, "additionalProperties": False},
        "data": {"type": "array", "items": row},
        "named": {"type": "array", "items": {"type": "array", "items": {"anyOf": values}}},
    }
    if served is None:
        layouts = {"rows": {}, "columns": {}, "data": {}}
    named = layouts.pop("named", {})
    tables = [_layout({key: value}, [key]) for key, value in layouts.items()]
    return {"oneOf": [*tables, _layout({"data": named, "names": names}, ["data", "names"])]}


def _layout(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _body(schema: str, example: dict[str, Any] | None) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if example is not None:
        body["example"] = example
    return body
