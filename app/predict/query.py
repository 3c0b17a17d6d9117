"""Query parameters of the prediction routes: `?interval=` and `?output=`."""

from typing import Literal, get_args
from urllib.parse import parse_qs

from app.codecs.rules import MAX_ERRORS, printable
from app.config.settings import Output
from app.errors import FieldError, InvalidInput
from app.models.interval import requested_level
from app.models.served import ServedModel

INTERVAL, OUTPUT = "interval", "output"

Addition = Literal["label", "probabilities", "raw_score"]
"""Field of an answer beside the prediction."""

ADDITIONS: dict[Output, tuple[Addition, ...]] = {
    "auto": ("label", "probabilities"),
    "labels": ("label",),
    "probabilities": ("probabilities",),
    "raw": ("raw_score",),
}
"""Additions of each output. Those of auto are for answers in JSON alone, of a model that has labels."""


def requested(
    query: bytes, served: ServedModel, setting: Output, *, table: bool
) -> tuple[float | None, tuple[Addition, ...]]:
    """The level of the intervals, and the additions to the predictions, that a request asks for.

    Args:
        query: Query string of the request.
        served: Model that answers.
        setting: MODEL_OUTPUT, the output of requests that name none. A model that cannot give it answers as with auto.
        table: Whether the answer is a table, which by default has no intervals and no additions.

    Returns:
        The level, None for an answer without intervals; and the additions.

    Raises:
        InvalidInput: The model has no such level or output, or there is another parameter.
    """
    intervals = served.artifact.intervals
    if not query and served.labels is None and setting == "auto":  # most requests
        return None if table else requested_level(intervals, None), ()
    output = setting if setting in served.outputs else "auto"
    levels, outputs = _values(query) if query else (None, None)
    level, faults = None, list[FieldError]()
    try:
        level = None if table and levels is None else requested_level(intervals, levels)
    except InvalidInput as error:
        faults += error.errors
    try:
        output = output if outputs is None else _chosen(outputs, served)
    except InvalidInput as error:
        faults += error.errors
    if faults:
        raise InvalidInput("The query is not valid.", tuple(faults))
    return level, _additions(output, served, table)


def _additions(output: Output, served: ServedModel, table: bool) -> tuple[Addition, ...]:
    return () if output == "auto" and (table or served.labels is None) else ADDITIONS[output]


def _chosen(given: list[str], served: ServedModel) -> Output:
    """The output that the values of `output` name.

    Raises:
        InvalidInput: They are not one output that the model can give.
    """
    choices = ", ".join(served.outputs)
    if len(given) != 1:
        message = f"must be given once; the model can give {choices}"
    elif given[0] not in get_args(Output):
        message = f"must be one of {choices}"
    else:
        for output in served.outputs:
            if output == given[0]:
                return output
        lacking = "has no class labels" if given[0] == "labels" else "predicts no probabilities of classes"
        message = f"cannot be {given[0]}: the model {lacking}, and can give {choices}"
    raise InvalidInput("The query is not valid.", (FieldError(OUTPUT, message),))


def _values(query: bytes) -> tuple[list[str] | None, list[str] | None]:
    """All values of `interval` and of `output`, None where one is absent."""
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    levels, outputs = given.pop(INTERVAL, None), given.pop(OUTPUT, None)
    if given:
        errors = tuple(FieldError(printable(other), "unknown query parameter") for other in given)
        raise InvalidInput("The query is not valid.", errors[:MAX_ERRORS])
    return levels, outputs
