"""JSON of requests for inference: its fields, and names that it must not repeat."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from app.codecs.json.duplicates import ESCAPED, has_repeated, parse
from app.codecs.rules import BODY, INVALID, printable
from app.errors import FieldError, InvalidInput, MalformedBody
from app.protocols.open_inference.messages import InferRequest, Parameters, ParsedRequest

Request = InferRequest | ParsedRequest

MALFORMED = "The body is not valid JSON."

_DECODER = msgspec.json.Decoder(InferRequest)


def parse_request(text: bytes | bytearray) -> Request:
    """Parse the JSON of a request. NaN and Infinity are let through, as clients write them for missing values.

    Raises:
        MalformedBody: The text is not JSON.
        InvalidInput: It is no request, or an object in it has a name more than once.
    """
    try:
        request = _DECODER.decode(text)
        if _may_repeat(text, request) and has_repeated(text):
            raise _repeated()
        return request
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_leniently(text)


def _parse_leniently(text: bytes | bytearray) -> ParsedRequest:
    """A request that is JSON but for its numbers."""
    content = parse(text)
    try:
        msgspec.json.encode(content)  # fails for lone surrogates, which no answer could repeat
        if has_repeated(text):
            raise _repeated()
        return msgspec.convert(content, ParsedRequest)
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    except (UnicodeEncodeError, RecursionError):
        raise MalformedBody(MALFORMED) from None


def _refusal(error: msgspec.ValidationError) -> InvalidInput:
    """The error for a field that is missing, unknown or of a wrong type. Its text has no value of the caller's."""
    message, _, place = str(error).partition(" - at `")
    return InvalidInput(INVALID, (FieldError(place.rstrip("`").removeprefix("$.") or BODY, printable(message)),))


def _repeated() -> InvalidInput:
    return InvalidInput(INVALID, (FieldError(BODY, "has a name more than once in an object"),))


def _may_repeat(text: bytes | bytearray, request: InferRequest) -> bool:
    """Whether an object could have a name more than once: the colons are not those that the request accounts for.

    See `app.codecs.json.duplicates`. Objects inside parameters count as suspicious, as nobody has reason to send them.
    """
    if ESCAPED in text:
        return True
    colons = 1 + _parameters(request.parameters) + (request.outputs is not UNSET)
    if request.id is not UNSET:
        colons += 1 + (request.id or "").count(":")
    for tensor in request.inputs:
        colons += 3 + _colons((tensor.name, tensor.datatype)) + _parameters(tensor.parameters)
        if tensor.data is not UNSET:
            colons += 1 + bytes(tensor.data).count(b":")
    for output in request.outputs or ():
        colons += 1 + output.name.count(":") + _parameters(output.parameters)
    return text.count(b":") != colons


def _parameters(parameters: Parameters | msgspec.UnsetType | None) -> int:
    """Colons of parameters and of their own name."""
    if parameters is UNSET:
        return 0
    given = parameters or {}
    return 1 + len(given) + _colons(given) + _colons(value for value in given.values() if isinstance(value, str))


def _colons(texts: Iterable[str]) -> int:
    return sum(text.count(":") for text in texts)
