"""Requests for inference over HTTP: their JSON, the tensors in it or behind it, and the outputs that they ask for."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET

from app.codecs.arrays.raw_tensors import read_raw
from app.codecs.arrays.tensors import Tensor, refusal, rows_of
from app.codecs.rules import MAX_ERRORS, FloatArray, check_width, printable
from app.config.settings import Settings
from app.errors import BadRequest, FieldError, InvalidInput, MalformedBody, TooLarge
from app.headers import Headers
from app.models.served import ServedModel
from app.predict.body import Body
from app.protocols.open_inference.json_values import read_values
from app.protocols.open_inference.messages import InputTensor, Parameters
from app.protocols.open_inference.outputs import Wanted, wanted_of
from app.protocols.open_inference.parsing import Request, parse_request

HEAD_LENGTH = b"inference-header-content-length"
"""Header with the number of bytes of a body's JSON, if tensors follow it."""

SIZE, BINARY, ALL_BINARY, CLASSIFICATION = "binary_data_size", "binary_data", "binary_data_output", "classification"
SHARED_MEMORY = "shared_memory_"
CONTENT_TYPE = "content_type"
"""MLServer's parameter that names a Python type for a tensor. Its clients may send it, and it changes nothing here."""


class Asked(NamedTuple):
    """What a request asks for.

    Attributes:
        rows: float64[B, F], the rows of its tensors.
        wanted: The outputs.
        binary: Names of the outputs whose values are to follow the JSON as bytes.
        id: Id of the request, which the answer repeats.
    """

    rows: FloatArray
    wanted: Wanted
    binary: frozenset[str]
    id: str | None

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)


def head_bytes(headers: Headers, settings: Settings) -> int | None:
    """Bytes of a body's JSON if tensors may follow it; None if the body is JSON alone.

    Raises:
        BadRequest: The header is no whole number.
        TooLarge: The JSON is larger than MAX_JSON_BYTES.
    """
    given = headers.get(HEAD_LENGTH)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18:
        raise BadRequest("Inference-Header-Content-Length must be a whole number, the bytes of the JSON.")
    if (length := int(given)) > settings.max_json_bytes:
        raise TooLarge("The JSON is larger than MAX_JSON_BYTES.")
    return length


def read_request(body: Body, head_length: int | None, served: ServedModel, settings: Settings) -> Asked:
    """Read a request.

    Args:
        body: Body of the request.
        head_length: From `head_bytes`.
        served: Model that answers.
        settings: Settings of the service.

    Raises:
        MalformedBody: The body is not JSON, or its sizes do not add up.
        InvalidInput: Tensors, outputs or parameters are not what the model takes and gives.
        TooLarge: The tensors have more rows than MAX_BULK_ROWS.
    """
    head, tail = body, None
    if head_length is not None:
        if head_length > len(body):
            raise MalformedBody("The body is shorter than its Inference-Header-Content-Length.")
        head, tail = body[:head_length], memoryview(body)[head_length:]
    request = parse_request(head)
    parameters = dict(request.parameters or {})
    all_binary = parameters.pop(ALL_BINARY, False)
    if not isinstance(all_binary, bool):
        raise InvalidInput("The parameters are not valid.", (FieldError(ALL_BINARY, "must be true or false"),))
    names, binary = _outputs(request, all_binary)
    wanted = wanted_of(names, parameters, served, settings)
    rows = rows_of(_tensors(request, tail, served), served.artifact.features, settings.max_bulk_rows, len(body))
    if len(rows) <= settings.max_batch_size:
        rows = rows.copy()  # rows that are logged must not keep a body of any size in memory
    return Asked(rows, wanted, binary if names else frozenset(wanted.names if all_binary else ()), request.id or None)


def _outputs(request: Request, all_binary: bool) -> tuple[list[str], frozenset[str]]:
    """Names of the outputs that a request names, and of those that it wants as bytes."""
    names: list[str] = []
    binary: set[str] = set()
    for output in request.outputs or ():
        names.append(output.name)
        if not output.parameters:
            as_bytes = all_binary
        else:
            check_parameters(output.name, output.parameters, BINARY)
            as_bytes = output.parameters.get(BINARY, all_binary)
        if not isinstance(as_bytes, bool):
            raise refusal(output.name, f"must have true or false as {BINARY}")
        if as_bytes:
            binary.add(output.name)
    return names, frozenset(binary)


def _tensors(request: Request, tail: memoryview | None, served: ServedModel) -> list[Tensor]:
    """Tensors of a request: their values are in its JSON, or in the bytes behind it, one after the other."""
    check_width(len(request.inputs), served.artifact.features)
    tensors: list[Tensor] = []
    at = 0
    for given in request.inputs:
        size = None
        if given.parameters:
            check_parameters(given.name, given.parameters, SIZE)
            size = _size(given, given.parameters, tail)
        if size is None or tail is None:
            tensors.append(read_values(given))
            continue
        if size > len(tail) - at:
            raise refusal(given.name, f"has a {SIZE} beyond the end of the body")
        tensors.append(read_raw(given.name, given.datatype, given.shape, tail[at : at + size]))
        at += size
    if tail is not None and at != len(tail):
        raise MalformedBody(f"The body has {len(tail) - at} bytes beyond those of its tensors.")
    return tensors


def _size(given: InputTensor, parameters: Parameters, tail: memoryview | None) -> int | None:
    """Bytes of a tensor behind the JSON; None if its values are in the JSON."""
    size = parameters.get(SIZE)
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise refusal(given.name, f"must have a whole number of bytes as {SIZE}")
    if tail is None:
        raise refusal(given.name, f"has {SIZE}, and the request has no Inference-Header-Content-Length")
    if given.data is not UNSET:
        raise refusal(given.name, f"has both data and {SIZE}")
    return size


def check_parameters(name: str, parameters: Iterable[str], known: str | None = None) -> None:
    """Refuse the parameters of a tensor that mean something which is not done here.

    Args:
        name: Name of the tensor.
        parameters: Names of its parameters.
        known: The one that is read; None where none is.
    """
    others = [parameter for parameter in parameters if parameter not in (known, CONTENT_TYPE)]
    if not others:
        return
    if any(parameter.startswith(SHARED_MEMORY) for parameter in others):
        raise refusal(name, "is in shared memory, which is not supported: its values must be in the body")
    if CLASSIFICATION in others:
        message = "cannot be a classification, which is not supported: ask for the output label or probabilities"
        raise refusal(name, message)
    unknown = ", ".join(printable(parameter) for parameter in others[:MAX_ERRORS])
    raise refusal(name, f"has an unknown parameter: {printable(unknown)}")
