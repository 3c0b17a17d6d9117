"""Query parameters of the prediction routes: `?interval=`."""

from urllib.parse import parse_qs

from app.codecs.rules import MAX_ERRORS, printable
from app.errors import FieldError, InvalidInput
from app.models.interval import requested_level
from app.models.served import ServedModel

INTERVAL = "interval"


def interval_level(query: bytes, served: ServedModel, *, by_default: bool) -> float | None:
    """The level of the intervals that a request asks for.

    Args:
        query: Query string of the request.
        served: Model that answers.
        by_default: Whether a request that asks for no level gets the model's default level.

    Returns:
        None for an answer without intervals.

    Raises:
        InvalidInput: The model has no such level, or there is another parameter.
    """
    asked = _interval(query) if query else None
    return requested_level(served.artifact.intervals, asked) if by_default or asked is not None else None


def _interval(query: bytes) -> list[str] | None:
    """All values of `interval`, None where it is absent."""
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    values = given.pop(INTERVAL, None)
    if given:
        errors = tuple(FieldError(printable(other), "unknown query parameter") for other in given)
        raise InvalidInput("The query is not valid.", errors[:MAX_ERRORS])
    return values
