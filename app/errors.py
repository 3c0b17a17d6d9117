"""The errors that a caller can meet.

They are plain exceptions that know their HTTP status and no web framework. `app.problems` puts them on the wire.
"""

from http import HTTPStatus
from typing import Literal

import msgspec

REQUEST_ID = "madrone_request_id"
ERROR_TYPE = "madrone_error_type"
REFUSAL = "madrone_refusal"
BROKEN_OFF = "madrone_broken_off"
"""Keys of the ASGI scope: the id of the request, the kind of error with which it ended, the reason if it was refused,
and whether its client left or was cut off before it had the whole answer."""

Overload = Literal["in_progress", "wait", "queue", "arriving", "rows_in_flight"]
"""Limits of overload: requests in progress, the wait of small ones, the queue for a thread, large bodies that arrive at
once, and rows in flight."""

MOST_IN_TEXT = 20
"""Most faults of fields in an error that is a single text."""


class FieldError(msgspec.Struct, frozen=True):
    """Fault of one field of a request."""

    field: str
    message: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller is told of a request that failed, before a protocol gives it its form.

    Attributes:
        status: HTTP status.
        kind: Kind of the error, as of `ServiceError`.
        detail: One sentence.
        errors: Faults of fields.
        request_id: Id of the request.
    """

    status: HTTPStatus
    kind: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    request_id: str = ""

    def message(self) -> str:
        """Detail and faults in one text, for protocols whose errors have only that."""
        more = [f"{fault.field}: {fault.message}" for fault in self.errors[:MOST_IN_TEXT]]
        if len(self.errors) > MOST_IN_TEXT:
            more.append(f"and {len(self.errors) - MOST_IN_TEXT} more")
        return " ".join([self.detail, "; ".join(more)]) if more else self.detail


class ServiceError(Exception):
    """An error whose text is meant for the caller.

    Attributes:
        status: HTTP status of the answer.
        kind: Short name, used in `type` and as the metrics label `error_type`.
        retry_after: Seconds after which the client may try again; None where that is of no use.
        refusal: Metrics label `reason` of a request that was refused for a limit, a key or the state of the service,
            whatever it asked for; None for other errors.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "internal"
    retry_after: int | None = None
    refusal: str | None = None

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors

    def sentences(self) -> str:
        """Detail and the first faults of fields, for a terminal."""
        return " ".join([self.detail, *(f"{fault.field} {fault.message}." for fault in self.errors[:10])])


class BadRequest(ServiceError):
    """The request contradicts itself, or lacks a header that HTTP requires."""

    status = HTTPStatus.BAD_REQUEST
    kind = "bad_request"


class MalformedBody(ServiceError):
    """The body is not in the format that its content type names."""

    status = HTTPStatus.BAD_REQUEST
    kind = "malformed_body"


class InvalidInput(ServiceError):
    """The body is well formed, but fields of it do not fit the model."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid_input"


class TooLarge(ServiceError):
    """The body has more rows or bytes than the limit allows."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = refusal = "too_large"


class UnsupportedMediaType(ServiceError):
    """The route does not support the content type."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = "unsupported_media_type"


class NotAcceptable(ServiceError):
    """The route supports no format that Accept names."""

    status = HTTPStatus.NOT_ACCEPTABLE
    kind = "not_acceptable"


class Unauthorized(ServiceError):
    """The request has no valid key."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "unauthorized"
    refusal = "key"


class Forbidden(ServiceError):
    """The configuration closes the route."""

    status = HTTPStatus.FORBIDDEN
    kind = "forbidden"
    refusal = "closed"


class ModelUnavailable(ServiceError):
    """No model is loaded yet."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "model_unavailable"
    refusal = "not_ready"
    retry_after = 5


class Unled(ServiceError):
    """The worker that carries out orders for all others does not answer."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "unled"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The worker that carries out orders for all others does not answer. Try again later.")


class PredictionNotFinite(ServiceError):
    """The prediction or the interval of a row is not finite. The fault is the model's, not the caller's.

    Args:
        detail: Text for the caller.
        errors: Values that are not finite, by the names of the columns of bulk answers.
        rows: Number of such rows.
        of: Number of all rows of the request.
    """

    kind = "prediction_not_finite"

    def __init__(self, detail: str, errors: tuple[FieldError, ...], rows: int, of: int = 1) -> None:
        super().__init__(detail, errors)
        self.rows = rows
        self.of = of


class NotFound(ServiceError):
    """The request names something that does not exist."""

    status = HTTPStatus.NOT_FOUND
    kind = "not_found"


class Conflict(ServiceError):
    """The request makes no sense with the settings of this service."""

    status = HTTPStatus.CONFLICT
    kind = "conflict"


class NotSupported(ServiceError):
    """The request asks for something that its protocol has, and this service does not."""

    status = HTTPStatus.NOT_IMPLEMENTED
    kind = "not_supported"


class NotExplainable(ServiceError):
    """The predictions of the model in use cannot be explained.

    Args:
        reason: Why, without a full stop.
    """

    status = HTTPStatus.NOT_IMPLEMENTED
    kind = "not_explainable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The predictions of the model cannot be explained: {reason}.")


class Overloaded(ServiceError):
    """The service has no room for the request, or could not answer it within a reasonable time.

    Args:
        detail: Text for the caller.
        retry_after: Seconds after which the client may try again.
        refusal: The limit that was reached.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "overloaded"

    def __init__(self, detail: str, retry_after: int = 1, *, refusal: Overload = "in_progress") -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.refusal = refusal


class TooManyViewers(ServiceError):
    """As many watch the console's figures as may."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "too_many_viewers"
    retry_after = 10


class PredictionLogUnavailable(ServiceError):
    """The prediction log cannot be written or read now; a prediction that must be logged durably is not answered."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "prediction_log_unavailable"
    refusal = "log_unavailable"
    retry_after = 1


class RateLimited(ServiceError):
    """The client made more requests in a minute than RATE_LIMIT allows.

    Args:
        seconds: Time until its next minute begins.
    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    kind = "too_many_requests"
    refusal = "rate_limit"

    def __init__(self, seconds: int) -> None:
        super().__init__("The client made more requests in this minute than RATE_LIMIT allows.")
        self.retry_after = seconds


class BodyTimeout(ServiceError):
    """The body did not arrive within REQUEST_TIMEOUT."""

    status = HTTPStatus.REQUEST_TIMEOUT
    kind = refusal = "body_timeout"


class AnswerTimeout(Exception):
    """The client read no part of its answer within REQUEST_TIMEOUT, so its connection is closed."""

    kind = "answer_timeout"


class Disconnected(Exception):
    """The client has gone, so there is nobody to answer."""


class DeadlineExceeded(ServiceError):
    """The request was not answered within REQUEST_TIMEOUT."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    kind = "timeout"
    refusal = "deadline"
