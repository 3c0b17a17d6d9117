"""Answers to requests for inference over HTTP: JSON, and behind it the tensors that are wanted as bytes."""

from contextlib import nullcontext
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from app.codecs.arrays.raw_tensors import write_raw
from app.codecs.arrays.tensors import Tensor
from app.codecs.gil_yield import GilTurns, GilYield
from app.codecs.rules import Buffer
from app.models.served import ServedModel
from app.predict.body import SMALL_BODY_BYTES
from app.predict.scoring import Scored
from app.protocols.open_inference.messages import BinaryData, InferResponse, OutputTensor
from app.protocols.open_inference.outputs import output_tensors
from app.protocols.open_inference.request import HEAD_LENGTH, Asked
from kernels.engine import Evaluation

ENCODED_VALUES = 2048
"""Values encoded in one call, in less than a millisecond."""

BINARY_TYPE = b"application/octet-stream"

_encode = msgspec.json.Encoder().encode


def infer_answer(served: ServedModel, turns: GilTurns, asked: Asked, evaluation: Evaluation) -> Scored:
    """The answer to a request.

    Args:
        served: Model that answers.
        turns: Turns of the threads that write JSON.
        asked: The request.
        evaluation: Evaluation of its rows.

    Raises:
        PredictionNotFinite: The model has no finite answer to some of the rows.
    """
    tensors = output_tensors(served, asked.wanted, evaluation)
    tail: list[Buffer] = []
    outputs: list[OutputTensor] = []
    in_json = len(asked.binary) < len(tensors)
    # Few rows are answered on the event loop, which must not wait for a turn.
    with turns if in_json and asked.rows.nbytes > SMALL_BODY_BYTES else nullcontext():
        for tensor in tensors:
            if tensor.name in asked.binary:
                part = write_raw(tensor)
                tail.append(part)
                told = BinaryData(len(part))
                outputs.append(OutputTensor(tensor.name, tensor.shape, tensor.datatype, parameters=told))
            else:
                outputs.append(OutputTensor(tensor.name, tensor.shape, tensor.datatype, data=_data(tensor)))
        given = UNSET if asked.id is None else asked.id
        head = _encode(InferResponse(served.identity.name, served.identity.version, outputs, given))
    if not asked.binary:
        return Scored(asked.rows, evaluation, head)
    headers = ((HEAD_LENGTH, b"%d" % len(head)),)
    return Scored(asked.rows, evaluation, b"".join((head, *tail)), headers, BINARY_TYPE)


def _data(tensor: Tensor) -> Any:
    """The values of a tensor as a JSON list, encoded piece by piece."""
    yield_gil = GilYield()
    parts: list[bytes] = []
    for start in range(0, len(tensor.values), ENCODED_VALUES):
        values = tensor.values[start : start + ENCODED_VALUES]
        parts.append(_encode(values.tolist() if isinstance(values, np.ndarray) else values)[1:-1])
        yield_gil()
    return msgspec.Raw(b"[" + b",".join(parts) + b"]")
