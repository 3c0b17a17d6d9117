"""The prediction log as people and programs read it: `GET /predictions`."""

from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from litestar.types import ASGIApp

from app.auth import KEY_SCHEME, require_admin_key
from app.codecs.columns import arrow, parquet
from app.codecs.formats import FORMATS, accepted_format
from app.codecs.json import ndjson, table
from app.container import InjectedServices, Services
from app.predict.exchange import Endpoint, Exchange
from app.prediction_log.reading import export
from app.prediction_log.reading.moment import FORMS
from app.prediction_log.reading.page import PredictionsPage
from app.prediction_log.reading.query import KINDS, MOST_EXPORT_ROWS, query_of
from app.problems import problem_responses
from app.serving.deadline import Deadlines

PATH = "/predictions"

ENCODERS = {
    ndjson.MEDIA_TYPE: export.ndjson, parquet.MEDIA_TYPE: export.parquet, arrow.MEDIA_TYPE: export.arrow,
}  # fmt: skip
"""Writers of the formats that are sent while they are read."""

OFFERED = tuple(FORMATS[name] for name in (table.MEDIA_TYPE, *ENCODERS))


def _parameter(description: str, **schema: Any) -> Any:
    return QueryParameter(description=description, schema_extra={"type": "string", "one_of": None} | schema)


Time = Annotated[list[str] | None, _parameter(f"{FORMS[0].upper()}{FORMS[1:]}. A date begins in UTC.")]
Text = Annotated[list[str] | None, _parameter("The value that rows must have.", min_length=1, max_length=128)]
Kind = Annotated[list[str] | None, _parameter("The value that rows must have.", enum=[*KINDS])]
Order = Annotated[list[str] | None, _parameter("Which row comes first.", enum=["newest", "oldest"])]
Limit = Annotated[
    list[str] | None,
    _parameter(
        "Most rows: of JSON 1 to 1000, by default 100; of the other formats more, by default 1000000.",
        type="integer", minimum=1, maximum=MOST_EXPORT_ROWS,
    ),
]  # fmt: skip
Cursor = Annotated[list[str] | None, _parameter("`next` of an answer, to go on behind its rows.")]


@get(
    PATH,
    tags=["predictions"],
    summary="Read the prediction log",
    guards=[require_admin_key],
    security=[{KEY_SCHEME: []}],
    responses={200: ResponseSpec(PredictionsPage, description="A page of rows", generate_examples=False)}
    | problem_responses(400, 401, 403, 406, 409, 422, 500, 503, 504),
)
async def read_predictions(
    services: InjectedServices, request: Request[Any, Any, Any], since: Time = None, until: Time = None,
    model_name: Text = None, model_version: Text = None, request_id: Text = None, prediction_type: Kind = None,
    order: Order = None, limit: Limit = None, cursor: Cursor = None,
) -> ASGIApp:  # fmt: skip
    """Rows of the prediction log with their outcomes, the newest first.

    `since` is the time of the oldest row, `until` that before which all rows are. JSON has a page of rows, and `next`,
    the `cursor` of the next page. With Accept, NDJSON, Parquet or Arrow has all rows up to `limit`; the columns
    `features`, `prediction` and `actual` of the latter two are JSON as text. Of rows with one id and index, the newest
    has the outcome. `row` is null in batches that an early release logged, whose rows no outcome can name.
    """
    deadlines = Deadlines(services.settings.request_timeout)
    return Endpoint(PATH, partial(_answer, services), deadlines, services.gate, services.metrics.stages)


async def _answer(services: Services, exchange: Exchange) -> None:
    exchange.deadline.reading = False  # there is no body
    wanted = accepted_format(exchange.header(b"accept"), OFFERED[0], OFFERED).media_type
    encode = ENCODERS.get(wanted)
    query = query_of(exchange.query, export=encode is not None)
    if encode is None:
        page = await services.log_reader.page(query)
        await exchange.answer(msgspec.json.encode(page))
        return
    parts = services.log_reader.export(query, encode)
    part = await anext(parts, b"")  # before the head of the answer, which a fault changes
    await exchange.begin(wanted.encode(), 200, ())
    await exchange.send(part, more=True)
    async for part in parts:
        await exchange.send(part, more=True)
    await exchange.send(b"", more=False)
