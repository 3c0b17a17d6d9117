"""ModelInfer: predictions for the tensors of a message."""

from functools import partial
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from app.codecs.arrays.tensors import rows_of
from app.codecs.rules import FloatArray, check_width
from app.config.settings import Settings
from app.container import Services
from app.errors import MalformedBody
from app.models.served import ServedModel
from app.predict.body import Body
from app.predict.many_rows import NO_TURN, Reader
from app.predict.scoring import Scored, Scorings
from app.protocols.open_inference.models import model_of
from app.protocols.open_inference.outputs import Wanted, output_tensors, wanted_of
from app.protocols.open_inference.request import check_parameters
from app.protocols.open_inference.rpc.answers import infer_answer
from app.protocols.open_inference.rpc.call import RpcCall
from app.protocols.open_inference.rpc.contents import tensors_of
from app.protocols.open_inference.rpc.messages import message
from app.protocols.open_inference.rpc.wire import NOT_A_REQUEST, named_model, split
from app.serving.deadline import Deadline
from app.serving.needs import Needs
from kernels.engine import Evaluation

REQUEST = message("ModelInferRequest")


class Asked(NamedTuple):
    """What a message asks for.

    Attributes:
        rows: float64[B, F].
        wanted: Outputs that the answer has.
        identifier: Id of the message, which the answer has as well.
        raw: Whether the values came raw, and so are those of the answer.
    """

    rows: FloatArray
    wanted: Wanted
    identifier: str
    raw: bool

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)


class Inference:
    """Answers ModelInfer.

    Args:
        services: Collaborators of the application.
        scorings: Policies of all models.
    """

    def __init__(self, services: Services, scorings: Scorings) -> None:
        self._services = services
        self._scorings = scorings

    async def answer(self, call: RpcCall, deadline: Deadline) -> bytes:
        """Message of the answer to a call.

        Raises:
            ServiceError: The error to answer with.
        """
        services = self._services
        self._scorings.first.check_key(call.headers)
        body = await call.read(services.settings.max_body_bytes, "MAX_BODY_BYTES", deadline)
        name, version = named_model(body, self._most_features())
        del body
        served = model_of(name, version, services, call.raw_headers, call.request_id)
        scoring = self._scorings.models[name]
        reader = Reader(
            scoring.kind, _needs, scoring.settings.max_body_bytes, "MAX_BODY_BYTES",
            partial(_asked, scoring.settings, served), NO_TURN, partial(_scored, served), NO_TURN,
        )  # fmt: skip
        await scoring.answer(call, served, reader)
        return call.reply

    def _most_features(self) -> int:
        """Most features of a model in service, each of which can have an input."""
        slots = [one.slot for one in self._services.models.values()]
        widths = [len(slot.current.feature_names) for slot in slots if slot.current is not None]
        return max(widths, default=0) or len(self._services.slot.require().feature_names)


def _asked(settings: Settings, served: ServedModel, body: Body) -> Asked:
    """Read a message."""
    features = served.artifact.features
    parts = split(bytes(body), len(features), settings.max_json_bytes, "MAX_JSON_BYTES")
    try:
        request = REQUEST.FromString(parts.rest)
    except DecodeError:
        raise MalformedBody(NOT_A_REQUEST) from None
    names = [_output(output) for output in request.outputs]
    parameters = {name: _value(given) for name, given in request.parameters.items()}
    wanted = wanted_of(names, parameters, served, settings)
    check_width(len(request.inputs), features)
    rows = rows_of(tensors_of(request, parts), features, settings.max_bulk_rows, len(body))
    return Asked(rows, wanted, request.id, bool(parts.raw))


def _needs(asked: Asked) -> Needs:
    return asked.wanted.needs


def _scored(served: ServedModel, asked: Asked, evaluation: Evaluation) -> Scored:
    tensors = output_tensors(served, asked.wanted, evaluation)
    return Scored(asked.rows, evaluation, infer_answer(served.identity, asked.identifier, tensors, raw=asked.raw))


def _output(output: Any) -> str:
    """Name of an output that is asked for, without parameters that would change it."""
    if output.parameters:
        check_parameters(output.name, output.parameters)
    return output.name


def _value(parameter: Any) -> object:
    """Value of a parameter, None where it has none."""
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)
