"""Formats of bulk bodies by media type, and their negotiation by Content-Type and Accept."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from app.codecs.arrays import msgpack, npy
from app.codecs.columns import arrow, csv, parquet
from app.codecs.json import ndjson
from app.codecs.json import table as table_json
from app.codecs.result import Result
from app.codecs.rules import Buffer, FloatArray
from app.errors import NotAcceptable, UnsupportedMediaType
from app.feature import Feature


class Format(NamedTuple):
    """Reader and writer of one media type.

    Attributes:
        media_type: Name or alias.
        decode: Decodes a body to float64[B, F], given the model's features and the most rows allowed.
        encode: Encodes a result, piece by piece.
        is_packed: Whether a few bytes may hold many rows.
    """

    media_type: str
    decode: Callable[[Buffer, tuple[Feature, ...], int], FloatArray]
    encode: Callable[[Result], Iterator[Buffer]]
    is_packed: bool


_MODULES = (
    (table_json, ()),
    (ndjson, ("application/jsonl", "application/jsonlines")),
    (csv, ()),
    # IANA has no name for .npy; this one is SageMaker's.
    (npy, ()),
    (msgpack, ("application/x-msgpack", "application/vnd.msgpack")),
    (arrow, ()),
    (parquet, ("application/x-parquet",)),
)
FORMATS: dict[str, Format] = {
    name: Format(name, module.decode, module.encode, module is parquet)
    for module, aliases in _MODULES
    for name in (module.MEDIA_TYPE, *aliases)
}
"""Formats by media type and alias; a request that uses an alias is answered with that alias."""

ALL = tuple(FORMATS.values())
NAMES = ", ".join(module.MEDIA_TYPE for module, _ in _MODULES)
TEXT = frozenset(
    name for name, found in FORMATS.items() if found.decode in (table_json.decode, ndjson.decode, csv.decode)
)

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_PARAMETER = re.compile(r';\s*([^\s;="]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*)\s*')
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


@lru_cache(maxsize=64)
def content_format(content_type: str | None, names: str = NAMES) -> Format:
    """Format of a body.

    Args:
        content_type: Value of the header, None if absent.
        names: The media types that an error names.

    Raises:
        UnsupportedMediaType: The media type is not read, or the charset is not UTF-8.
    """
    name, parameters = _parsed(content_type or "")
    found = FORMATS.get(name)
    if found is None:
        raise UnsupportedMediaType(f"The body must come with one of these as Content-Type: {names}.")
    if not _fits(found, parameters):
        raise UnsupportedMediaType(
            f"The body must be {name} in UTF-8." if name in TEXT else f"The body must be {name} without a charset."
        )
    return found


@lru_cache(maxsize=64)
def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type, None if absent, is JSON in UTF-8."""
    name, parameters = _parsed(content_type or "")
    return name == table_json.MEDIA_TYPE and _fits(FORMATS[name], parameters)


@lru_cache(maxsize=64)
def accepted_format(accept: str | None, default: Format, offered: tuple[Format, ...] = ALL) -> Format:
    """Format of the answer, by proactive negotiation (RFC 9110, section 12.5.1).

    The weight of a format is that of the most specific media range that matches it. Among formats of the greatest
    weight, `default` comes first, then the one named first, then the order of FORMATS.

    Args:
        accept: Value of the header, None if absent.
        default: Format of the answer without a preference.
        offered: Formats that the route has.

    Raises:
        NotAcceptable: No format has a weight above 0.
    """
    if accept is None or not accept.strip():
        return default
    ranges = _ranges(accept)
    weights = {found: _weight(found, ranges) for found in (default, *offered)}
    best = max(weights, key=lambda found: (weights[found][0], found == default, -weights[found][1]))
    if weights[best][0] == 0:
        names = NAMES if offered is ALL else ", ".join(found.media_type for found in offered)
        raise NotAcceptable(f"Accept must allow one of these: {names}.")
    return best


class _Range(NamedTuple):
    pattern: str
    precision: int
    weight: float
    place: int


def _ranges(accept: str) -> list[_Range]:
    """Media ranges of the header, without those that have an invalid weight or another charset."""
    ranges: list[_Range] = []
    for place, element in enumerate(_ELEMENT.findall(accept)):
        name, parameters = _parsed(element)
        weight = parameters.get("q", "1")
        if _WEIGHT.fullmatch(weight) and parameters.get("charset", "utf-8") == "utf-8":
            precision = (name != "*/*") + (not name.endswith("/*"))
            ranges.append(_Range(name, precision, float(weight), place))
    return ranges


def _weight(found: Format, ranges: list[_Range]) -> tuple[float, int]:
    """Weight of a format, and the index of the range that gives it."""
    patterns = (found.media_type, found.media_type.partition("/")[0] + "/*", "*/*")
    matches = [given for given in ranges if given.pattern in patterns]
    best = max(matches, key=lambda given: given.precision, default=_Range("", 0, 0.0, 0))
    return best.weight, best.place


def _fits(found: Format, parameters: dict[str, str]) -> bool:
    """Whether a body with these Content-Type parameters can be read. Those that do not affect reading are ignored."""
    charset = parameters.get("charset", "utf-8")
    if found.media_type not in TEXT:
        return "charset" not in parameters
    return charset == "utf-8" and not (found.media_type == csv.MEDIA_TYPE and parameters.get("header") == "absent")


def _parsed(value: str) -> tuple[str, dict[str, str]]:
    """Media type or range and its parameters, in lower case; the values of a repeated parameter are joined."""
    name, _, rest = value.lower().partition(";")
    parameters: dict[str, str] = {}
    for key, quoted in _PARAMETER.findall(";" + rest):
        given = quoted.strip('"')
        before = parameters.setdefault(key, given)
        if before != given:
            parameters[key] = f"{before}, {given}"
    return name.strip(), parameters
