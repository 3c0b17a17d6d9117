"""Messages of inference in JSON: requests, and the heads of answers."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

Parameters = dict[str, Any]


class InputTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of a request.

    Attributes:
        shape: Dimensions.
        data: Values in row-major order, flat or nested; absent if they follow the JSON as bytes. A list where the JSON
            was parsed before.
    """

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | UnsetType | None = UNSET
    data: msgspec.Raw | UnsetType = UNSET


class ParsedTensor(InputTensor, frozen=True, forbid_unknown_fields=True):
    """The same, of a body with numbers that JSON does not have."""

    data: list[Any] | UnsetType = UNSET  # pyright: ignore[reportIncompatibleVariableOverride]


class RequestedOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output that a request names."""

    name: str
    parameters: Parameters | UnsetType | None = UNSET


class InferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a request, or the JSON that its tensors follow as bytes."""

    inputs: list[InputTensor]
    id: str | UnsetType | None = UNSET
    parameters: Parameters | UnsetType | None = UNSET
    outputs: list[RequestedOutput] | UnsetType | None = UNSET


class ParsedRequest(InferRequest, frozen=True, forbid_unknown_fields=True):
    """The same, of a body with numbers that JSON does not have."""

    inputs: list[ParsedTensor]  # pyright: ignore[reportIncompatibleVariableOverride]


class BinaryData(msgspec.Struct, frozen=True):
    """Parameters of an output whose values follow the JSON as bytes."""

    binary_data_size: int


class OutputTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """An output of an answer.

    Attributes:
        data: Values in row-major order; absent if they follow the JSON as bytes.
    """

    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: BinaryData | UnsetType = UNSET
    data: list[float | bool | str] | UnsetType = UNSET


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of an answer, or the JSON that its tensors follow as bytes.

    Attributes:
        id: Id of the request, where it has one.
    """

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | UnsetType = UNSET
