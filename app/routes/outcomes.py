"""Outcomes of predictions: the route that takes them, and the report on the error of the models."""

import asyncio
from typing import Any

import msgspec
from litestar import Controller, HttpMethod, Request, Response, get, post, route

from app.auth import KEY_SCHEME, require_key
from app.codecs.columns import csv
from app.codecs.compression import check_encoding, decompress
from app.codecs.json import ndjson
from app.codecs.rules import MAX_ERRORS, Buffer
from app.container import InjectedServices
from app.errors import BodyTimeout, FieldError
from app.outcomes.body import MOST_OUTCOMES, Outcome
from app.outcomes.report import OutcomesReport
from app.outcomes.store import Refused
from app.problems import problem_responses


class RefusedOutcome(msgspec.Struct, frozen=True):
    """An outcome that was not taken.

    Attributes:
        index: Its index in the request.
        errors: Why.
    """

    index: int
    errors: tuple[FieldError, ...]


class OutcomesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Number of outcomes by what became of them.

    Attributes:
        total: All of the request.
        matched: Outcomes of logged predictions.
        waiting: Outcomes whose predictions are not logged (yet).
        duplicate: Outcomes that were known already.
        corrected: Outcomes that replace another value.
        refused: Outcomes that were not taken.
        errors: The first 1,000 of these.
    """

    total: int
    matched: int
    waiting: int
    duplicate: int
    corrected: int
    refused: int
    errors: list[RefusedOutcome]


class OutcomesController(Controller):
    """Routes of the outcomes, which require API_KEY if it is set."""

    path = "/outcomes"
    tags = ("outcomes",)

    @post(
        "/",
        status_code=200,
        guards=[require_key],
        security=[{KEY_SCHEME: []}],
        responses=problem_responses(400, 401, 408, 409, 413, 415, 422, 500, 503),
        summary="Report what became of predictions",
    )
    async def report_outcomes(
        self, services: InjectedServices, request: Request[Any, Any, Any]
    ) -> Response[OutcomesAnswer]:
        """Take the actual values for predictions, by the id of the request and the index of the row in it.

        A value of the same row that came before is replaced. An outcome may come before its prediction is in the table,
        and joins it then. Those that are not valid are refused alone.
        """
        try:
            async with asyncio.timeout(services.settings.request_timeout):
                body = await _body(request, services.settings.max_json_bytes)
        except TimeoutError:
            raise BodyTimeout("The body did not arrive within REQUEST_TIMEOUT.") from None
        fates = await services.outcomes.add(body, request.headers.get("content-type"))
        refused = [(index, fate) for index, fate in enumerate(fates) if isinstance(fate, Refused)]
        errors = [RefusedOutcome(index, (FieldError(*fate),)) for index, fate in refused[:MAX_ERRORS]]
        answer = OutcomesAnswer(
            total=len(fates),
            matched=fates.count("matched"),
            waiting=fates.count("waiting"),
            duplicate=fates.count("duplicate"),
            corrected=fates.count("corrected"),
            refused=len(refused),
            errors=errors,
        )
        return Response(answer, status_code=200)

    @get(
        "/",
        guards=[require_key],
        security=[{KEY_SCHEME: []}],
        responses=problem_responses(400, 401, 500),
        summary="Report the error of the models in service",
    )
    async def outcomes(self, services: InjectedServices) -> OutcomesReport:
        """Error of each model version in service, over its newest rows whose outcomes are known."""
        return services.outcomes.report

    @route("/", http_method=[HttpMethod.OPTIONS], status_code=204, include_in_schema=False)
    async def allowed(self) -> Response[None]:
        """Methods of the path. Its name sorts first, for else Litestar has made one that names fewer methods."""
        return Response(None, headers={"Allow": "GET, OPTIONS, POST"})


async def _body(request: Request[Any, Any, Any], limit: int) -> Buffer:
    """The body of a request, decompressed."""
    encoding = check_encoding(request.headers.get("content-encoding", ""))
    body = await request.body()
    if encoding is None:
        return body
    return await asyncio.to_thread(decompress, body, encoding, limit, "MAX_JSON_BYTES")


def describe_outcomes(document: dict[str, Any], *, open_to_all: bool) -> None:
    """Add the body of outcomes to the OpenAPI document.

    Args:
        document: The document, which is changed.
        open_to_all: Whether the routes require no key.
    """
    (one,), components = msgspec.json.schema_components((Outcome,), ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] |= components
    any_outcome = {"description": "An outcome that is not valid is refused alone.", "anyOf": [one, {}]}
    many = {
        "type": "object",
        "properties": {
            "outcomes": {"type": "array", "items": any_outcome, "minItems": 1, "maxItems": MOST_OUTCOMES},
        },
        "required": ["outcomes"],
        "additionalProperties": False,
    }
    tables = {name: {"schema": {"type": "string"}} for name in (ndjson.MEDIA_TYPE, csv.MEDIA_TYPE)}
    example = {"outcomes": [{"request_id": "0198a1b2c3d47e5f8a9b0c1d2e3f4a5b", "actual": 2.5}]}
    content = {"application/json": {"schema": {"oneOf": [one, many]}, "example": example}}
    path = document["paths"]["/outcomes"]
    path["post"]["requestBody"] = {"required": True, "content": content | tables}
    if open_to_all:
        for operation in path.values():
            del operation["security"]
