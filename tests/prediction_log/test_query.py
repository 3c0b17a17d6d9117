"""The query of `GET /predictions`: what is valid, and what the answer says of the rest."""

from datetime import UTC, datetime

import pytest

from app.errors import InvalidInput
from app.prediction_log.reading.moment import FORMS
from app.prediction_log.reading.query import MOST_EXPORT_ROWS, Order, Position, cursor_of, query_of

MOMENT = datetime(2026, 1, 31, 8, 0, 0, 500_000, UTC)


@pytest.mark.parametrize(
    "text",
    ["2026-01-31T08:00:00.5Z", "2026-01-31 10:00:00.5%2B02:00", "2026-01-31T10:00:00.5+02:00", "1769846400.5"],
)
def test_times_are_rfc_3339_or_seconds(text: str) -> None:
    query = query_of(f"since={text}&until={text}".encode(), export=False)
    assert (query.since, query.until) == (MOMENT, MOMENT)


@pytest.mark.parametrize("text", ["2026-01-31", "20260131", "1769817600"])
def test_a_date_begins_in_utc(text: str) -> None:
    query = query_of(f"since={text}&until={text}".encode(), export=False)
    assert (query.since, query.until) == (datetime(2026, 1, 31, tzinfo=UTC),) * 2


def test_without_parameters_it_is_the_newest_page() -> None:
    query = query_of(b"", export=False)
    assert (query.order, query.limit, query.equal, query.since, query.after) == ("newest", 100, {}, None, None)
    assert query_of(b"", export=True).limit == 1_000_000


@pytest.mark.parametrize("position", [17, ("20260131T080000.000000Z-one-0-0-5.parquet", 3)])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_cursor_keeps_order_and_position(order: Order, position: Position) -> None:
    cursor = cursor_of(order, position)
    query = query_of(
        f"cursor={cursor}&model_name=b&model_version=3&request_id=a&prediction_type=batch".encode(), export=False
    )
    assert (query.order, query.after) == (order, position)
    assert query.equal == {"model_name": "b", "model_version": "3", "request_id": "a", "prediction_type": "batch"}


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("since=yesterday", "since", f"must be {FORMS}; a time needs its zone"),
        ("until=2026-01-31T08:00:00", "until", "must be a time"),  # without a zone
        ("until=1e9", "until", "must be a time"),
        *[
            (f"since={text}", "since", "a date such as 2026-01-31 or 20260131, or seconds since 1970")
            for text in ("2026", "202601", "20261301", "20260131.5", "202601310800", "1769817600000", "2026-01", "0")
        ],
        ("since=99999999999999999999", "since", "must be a time"),
        ("since=0001-01-01T00:00:00%2B23:00", "since", "must be a time"),
        ("since=", "since", "must be a time"),
        ("limit=0", "limit", "must be a number from 1 to 1000"),
        ("limit=1001", "limit", "must be a number from 1 to 1000"),
        ("limit=%D9%A1", "limit", "must be a number"),
        ("limit=5&limit=6", "limit", "must be given once"),
        ("order=up", "order", "must be one of newest, oldest"),
        ("prediction_type=bulk", "prediction_type", "must be one of single, batch"),
        ("model_version=", "model_version", "must have 1 to 128 characters"),
        ("request_id=a%00b", "request_id", "none of them zero"),
        (f"request_id={'a' * 129}", "request_id", "must have 1 to 128 characters"),
        ("cursor=!", "cursor", "must be the `next` of an answer"),
        ("cursor=WyJuZXdlc3QiLC0xXQ", "cursor", "must be the `next` of an answer"),  # ["newest",-1]
        ("cursor=WyJuZXdlc3QiLDFlMzBd", "cursor", "must be the `next` of an answer"),  # ["newest",1e30]
        ("cursor=/w", "cursor", "must be the `next` of an answer"),
        (f"cursor={cursor_of('newest', 1)}&order=oldest", "cursor", "is that of an answer with order=newest"),
        ("colour=red", "colour", "unknown query parameter"),
        ("%ff=1", "\ufffd", "unknown query parameter"),
    ],
)
def test_what_is_not_valid_is_named(query: str, field: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        query_of(query.encode(), export=False)
    (fault,) = caught.value.errors
    assert fault.field == field
    assert message in fault.message


def test_exports_have_another_limit_and_all_faults_are_told() -> None:
    assert query_of(f"limit={MOST_EXPORT_ROWS}".encode(), export=True).limit == MOST_EXPORT_ROWS
    with pytest.raises(InvalidInput) as caught:
        query_of(f"limit={MOST_EXPORT_ROWS + 1}&since=x&other=".encode(), export=True)
    assert [fault.field for fault in caught.value.errors] == ["limit", "since", "other"]
