"""The OpenAPI document, with the request schemas of the model in use, and its two readers.

Litestar writes the document from the handlers. What a prediction takes is known only to the model, so those schemas
are put in when the document is asked for. Swagger UI and Redoc are served from an installed package, without a CDN.
"""

import importlib.util
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
from app.codecs.row_json import BATCH_ID_LENGTH
from app.container import Services
from app.models.interval import Intervals
from app.models.served import ServedModel
from app.routes.health import ReloadOrder
from app.settings import Settings

ASSETS_PACKAGE = "fastapi_standalone_docs"
ASSETS_PATH = "/docs/assets"
JSON = "application/json"
NO_ICON = "<link rel='icon' href='data:,'>"


class _Router(Router):
    """Litestar's documentation router without its catch-all page, so that unknown paths stay problem details."""

    def register(self, value: Any) -> Any:
        if isinstance(value, HTTPRouteHandler) and "/{path:str}" in value.paths:
            return []
        return super().register(value)


class _ModelSchemas:
    """Mixed into a render plugin, puts the model's schemas into what it renders."""

    @staticmethod
    def render_json(request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        services: Services = request.app.state.services
        described = document(openapi_schema, services.slot.current, open_to_all=services.settings.api_key is None)
        content = OpenAPIRenderPlugin.render_json(request, described)
        # The pages hold the document inside a <script>, which a description must not be able to end.
        return content.replace(b"<", b"\\u003c")


class _Json(_ModelSchemas, JsonRenderPlugin):
    pass


class _Swagger(_ModelSchemas, SwaggerRenderPlugin):
    pass


class _Redoc(_ModelSchemas, RedocRenderPlugin):
    pass


def openapi_config(settings: Settings) -> OpenAPIConfig:
    """Configuration that serves /openapi.json, and in debug mode /docs and /redoc."""
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
        description="Predictions of a LightGBM model from an MLflow Model Registry.",
        render_plugins=plugins,
        use_handler_docstrings=True,
        components=Components(
            security_schemes={KEY_SCHEME: SecurityScheme(type="apiKey", security_scheme_in="header", name="X-API-Key")}
        ),
        openapi_router=_Router("/", route_handlers=[], include_in_schema=False),
    )


def assets_router() -> Router:
    """Serves the scripts and styles of /docs and /redoc from the package that carries them."""
    # The package is found, not imported: it is the glue for another framework, and only its files are used.
    spec = importlib.util.find_spec(ASSETS_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{ASSETS_PACKAGE} is not installed, and /docs needs its files")
    directory = Path(spec.origin).parent / "static"
    return create_static_files_router(path=ASSETS_PATH, directories=[directory], include_in_schema=False)


def document(openapi: dict[str, Any], served: ServedModel | None, *, open_to_all: bool) -> dict[str, Any]:
    """The OpenAPI document with the request bodies and levels of the prediction routes.

    Args:
        openapi: As Litestar generates it; is not changed.
        served: The model whose features make the schemas. Without one any object is taken.
        open_to_all: Whether the prediction routes ask for no key.
    """
    result = _with_plain_tuples(openapi)  # which makes everything anew
    schemas: dict[str, Any] = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Features"] = served.codec.json_schema() if served else {"type": "object"}
    schemas["BatchRequest"] = {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Features"}, "minItems": 1},
            "batch_id": {"type": ["string", "null"], "maxLength": BATCH_ID_LENGTH},
        },
        "required": ["predictions"],
        "additionalProperties": False,
    }
    schemas["Table"] = _table(served)
    example = served.artifact.example if served else None
    tables = {name: {"schema": {"type": "string", "format": "binary"}} for name in FORMATS}
    bodies: dict[str, dict[str, Any]] = {
        "/predict": {JSON: _body("Features", example)},
        "/predict/batch": {JSON: _body("BatchRequest", example and {"predictions": [example]})},
        "/predict/bulk": tables | {JSON: _body("Table", example and {"rows": [example]})},
    }
    for path, content in bodies.items():
        operation = result["paths"][path]["post"]
        operation["requestBody"] = {"required": True, "content": content}
        if open_to_all:
            del operation["security"]
        if served is not None:
            _set_levels(operation, served.artifact.intervals)
    (order,), components = msgspec.json.schema_components((ReloadOrder,), ref_template="#/components/schemas/{name}")
    schemas |= components
    result["paths"]["/health/model/reload"]["post"]["requestBody"] = {"content": {JSON: {"schema": order}}}
    result["paths"]["/predict/bulk"]["post"]["responses"]["200"]["content"] = tables | {
        JSON: {"schema": {"$ref": "#/components/schemas/PredictionTable"}}
    }
    schemas["PredictionTable"] = {
        "type": "object",
        "properties": {
            "columns": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
            "model_version": {"type": "string"},
        },
        "required": ["columns", "model_version"],
    }
    return result


def _set_levels(operation: dict[str, Any], intervals: Intervals | None) -> None:
    """Say which intervals can be asked for; of a model that has none, no parameter."""
    if intervals is None:
        del operation["parameters"]
        return
    (interval,) = operation["parameters"]
    interval["schema"]["enum"] = list(intervals.levels)


def _with_plain_tuples(node: Any) -> Any:
    """A part of the document in which tuples of one type are arrays of a fixed length.

    Litestar writes only their `prefixItems`, which bind neither the length nor what comes behind them, and which tools
    that know no JSON Schema 2020-12 pass over.
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
    """The layouts of a table in JSON, as `app.codecs.table_json` reads them."""
    values = {"type": "array", "items": {"type": ["number", "boolean", "null"]}}
    names = [feature.name for feature in served.artifact.features] if served else []
    layouts: dict[str, dict[str, Any]] = {
        "rows": {"rows": {"type": "array", "items": {"$ref": "#/components/schemas/Features"}}},
        "columns": {
            "columns": {"type": "object", "properties": dict.fromkeys(names, values), "additionalProperties": False}
        },
        "data": {
            "data": {"type": "array", "items": values},
            "names": {"type": "array", "items": {"type": "string"}},
        },
    }
    return {
        "oneOf": [
            {"type": "object", "properties": properties, "required": [key], "additionalProperties": False}
            for key, properties in layouts.items()
        ]
    }


def _body(schema: str, example: dict[str, Any] | None) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if example is not None:
        body["example"] = example
    return body
