"""Media types: the format of a body, and the format of its answer."""

import pytest

from app.codecs.columns import arrow, csv
from app.codecs.formats import FORMATS, NAMES, accepted_format, content_format
from app.codecs.json import ndjson
from app.codecs.json import table as table_json
from app.errors import NotAcceptable, UnsupportedMediaType

ARROW = FORMATS[arrow.MEDIA_TYPE]
ALL = (
    "application/json, application/x-ndjson, text/csv, application/x-npy, application/msgpack, "
    "application/vnd.apache.arrow.stream, application/vnd.apache.parquet"
)


@pytest.mark.parametrize(
    ("header", "media_type"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=UTF-8", "application/json"),
        ('text/csv; charset="utf-8"; header=present', "text/csv"),
        ("text/csv ;charset=utf-8", "text/csv"),
        ("application/x-ndjson; profile=1", "application/x-ndjson"),
        ("application/jsonl", "application/jsonl"),
        ("application/jsonlines", "application/jsonlines"),
        ("application/x-npy", "application/x-npy"),
        ("application/msgpack", "application/msgpack"),
        ("application/x-msgpack", "application/x-msgpack"),
        ("application/vnd.msgpack", "application/vnd.msgpack"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/x-parquet", "application/x-parquet"),
    ],
)
def test_media_types_and_aliases_are_read(header: str, media_type: str) -> None:
    assert content_format(header).media_type == media_type


def test_aliases_have_the_same_reader_and_writer() -> None:
    assert FORMATS["application/jsonl"].decode is FORMATS["application/x-ndjson"].decode is ndjson.decode
    assert FORMATS["application/x-parquet"].encode is FORMATS["application/vnd.apache.parquet"].encode


@pytest.mark.parametrize(
    "header", [None, "", "text/plain", "application/octet-stream", "json", "*/*", ";", "text/csvx"]
)
def test_other_media_types_are_refused_with_a_list_of_those_read(header: str | None) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        content_format(header)
    assert caught.value.detail == f"The body must come with one of these as Content-Type: {ALL}."


@pytest.mark.parametrize("header", ["application/json; charset=latin-1", "application/json;charset=utf-16"])
def test_text_in_other_charsets_is_refused(header: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        content_format(header)
    assert caught.value.detail == "The body must be application/json in UTF-8."


def test_a_charset_of_a_binary_format_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        content_format("application/x-npy; charset=utf-8")
    assert caught.value.detail == "The body must be application/x-npy without a charset."


def test_csv_without_a_header_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        content_format("text/csv; header=absent")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/vnd.apache.arrow.stream"),
        ("", "application/vnd.apache.arrow.stream"),
        ("*/*", "application/vnd.apache.arrow.stream"),
        ("application/*", "application/vnd.apache.arrow.stream"),
        ("text/*", "text/csv"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; Q=0.5", "text/csv"),
        ("application/x-msgpack", "application/x-msgpack"),
        ("text/csv, application/json", "text/csv"),
        ("application/json, text/csv", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.501", "application/json"),
        ("text/html, application/xhtml+xml, text/csv;q=0.9, */*;q=0.8", "text/csv"),
        ("text/csv;q=0.1, */*;q=0.2", "application/vnd.apache.arrow.stream"),
        ("application/json, */*", "application/vnd.apache.arrow.stream"),
        ("application/vnd.apache.arrow.stream;q=0, */*", "application/json"),
        ("application/*;q=0, */*", "text/csv"),
        ("application/*;q=0, application/x-npy;q=0.001", "application/x-npy"),
        ("text/csv;charset=utf-8", "text/csv"),
        ("text/csv;charset=latin-1, application/json;q=0.1", "application/json"),
        ("text/csv;q=high, application/json;q=0.1", "application/json"),
        ('text/html;a="x, text/csv", application/json', "application/json"),
        ("application/json;q=1.000", "application/json"),
        (" , application/json ,, ", "application/json"),
    ],
)
def test_the_format_with_the_greatest_weight_is_answered(accept: str | None, media_type: str) -> None:
    assert accepted_format(accept, ARROW).media_type == media_type


def test_the_default_format_is_that_of_the_body() -> None:
    own = content_format("application/x-parquet")
    assert accepted_format("*/*", own) == own
    assert accepted_format(None, FORMATS[csv.MEDIA_TYPE]).decode is csv.decode


@pytest.mark.parametrize(
    "accept", ["text/html", "image/*", "*/*;q=0", "text/csv;q=0", "application/json;q=0.0", "text/csv;q=2", "csv", ","]
)
def test_unacceptable_formats_are_refused_with_a_list_of_others(accept: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        accepted_format(accept, FORMATS[table_json.MEDIA_TYPE])
    assert caught.value.detail == f"Accept must allow one of these: {ALL}."
    assert NAMES == ALL
