"""Answers to ModelInfer, as the bytes of their message."""

from collections.abc import Sequence
from typing import Any

from app.codecs.arrays.raw_tensors import write_raw
from app.codecs.arrays.tensors import BYTES, Tensor
from app.codecs.gil_yield import GilYield
from app.models.identity import ModelIdentity
from app.protocols.open_inference.rpc.contents import FIELDS, FIXED
from app.protocols.open_inference.rpc.messages import message
from app.protocols.open_inference.rpc.wire import BYTES_KIND, delimited

RESPONSE = message("ModelInferResponse")
OUTPUT = message("ModelInferResponse.InferOutputTensor")

OUTPUTS, CONTENTS, RAW_CONTENTS = (number << 3 | BYTES_KIND for number in (5, 5, 6))
"""Tags of `outputs`, of an output's `contents`, and of `raw_output_contents`."""

PIECE = 4096
"""Values that are handed to protobuf at a time, in less than a millisecond."""


def infer_answer(identity: ModelIdentity, identifier: str, tensors: Sequence[Tensor], *, raw: bool) -> bytes:
    """A ModelInferResponse.

    Args:
        identity: The model that answered.
        identifier: Id that the request's message has.
        tensors: Outputs, whose numbers are arrays of their datatype's dtype.
        raw: Whether the values are raw, or in the field of their datatype.
    """
    head = RESPONSE(model_name=identity.name, model_version=identity.version, id=identifier)
    parts = [head.SerializeToString()]
    for tensor in tensors:
        output = OUTPUT(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        parts.append(delimited(OUTPUTS, output.SerializeToString() if raw else _with_contents(output, tensor)))
    if raw:
        parts += [delimited(RAW_CONTENTS, write_raw(tensor)) for tensor in tensors]
    return b"".join(parts)


def _with_contents(output: Any, tensor: Tensor) -> bytes:
    """An output with its values in the field of their datatype."""
    name, number = FIELDS[tensor.datatype]
    values: Any = tensor.values
    if number in FIXED:  # packed numbers are their bytes, which protobuf would be given one by one
        packed = delimited(number << 3 | BYTES_KIND, values.tobytes())
        return output.SerializeToString() + delimited(CONTENTS, packed)
    field, yield_gil = getattr(output.contents, name), GilYield()
    for start in range(0, len(values), PIECE):
        piece = values[start : start + PIECE]
        field.extend([(text or "").encode() for text in piece] if tensor.datatype == BYTES else piece.tolist())
        yield_gil()
    return output.SerializeToString()
