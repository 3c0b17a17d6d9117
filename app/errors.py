"""The errors that a caller can meet.

They are plain exceptions that know their HTTP status and no web framework. `app.problems` puts them on the wire.
"""

from http import HTTPStatus

import msgspec

REQUEST_ID = "madrone_request_id"
ERROR_TYPE = "madrone_error_type"
"""Keys of the ASGI scope: the id that a request is known by, and the kind of error it ended in."""


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request body."""

    field: str
    message: str


class ServiceError(Exception):
    """An error whose text is meant for the caller.

    Attributes:
        status: HTTP status that it is answered with.
        kind: Short name, used in `type` and as the metrics label `error_type`.
        retry_after: Seconds after which a new attempt makes sense, if it ever does.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "internal"
    retry_after: int | None = None

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class BadRequest(ServiceError):
    """The request contradicts itself, or lacks what HTTP asks of it."""

    status = HTTPStatus.BAD_REQUEST
    kind = "bad_request"


class MalformedBody(ServiceError):
    """The body cannot be read as the format that its content type names."""

    status = HTTPStatus.BAD_REQUEST
    kind = "malformed_body"


class InvalidInput(ServiceError):
    """The body was read, but fields of it are not what the model takes."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid_input"


class TooLarge(ServiceError):
    """The body holds more rows or bytes than the limit allows."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "too_large"


class UnsupportedMediaType(ServiceError):
    """The route does not read the content type."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = "unsupported_media_type"


class NotAcceptable(ServiceError):
    """The route does not answer in any format that Accept asks for."""

    status = HTTPStatus.NOT_ACCEPTABLE
    kind = "not_acceptable"


class Unauthorized(ServiceError):
    """No valid key came with the request."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "unauthorized"


class Forbidden(ServiceError):
    """The route is closed by configuration."""

    status = HTTPStatus.FORBIDDEN
    kind = "forbidden"


class ModelUnavailable(ServiceError):
    """No model is loaded, so nothing can be predicted yet."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "model_unavailable"
    retry_after = 5


class PredictionNotFinite(ServiceError):
    """The model has no finite prediction for a row, or no finite interval: the fault is the model's, not the caller's.

    Args:
        detail: For the caller.
        errors: What is not finite, by the names that bulk answers give to their columns.
        rows: How many rows it is.
    """

    kind = "prediction_not_finite"

    def __init__(self, detail: str, errors: tuple[FieldError, ...], rows: int) -> None:
        super().__init__(detail, errors)
        self.rows = rows


class NotFound(ServiceError):
    """What the request names does not exist."""

    status = HTTPStatus.NOT_FOUND
    kind = "not_found"


class Overloaded(ServiceError):
    """The service has as much to do as it can hold, or as can be done in a sensible time.

    Args:
        detail: For the caller.
        retry_after: Seconds after which there is hope.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "overloaded"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class RateLimited(ServiceError):
    """The client made more requests in a minute than RATE_LIMIT allows.

    Args:
        seconds: Time until its next minute begins.
    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    kind = "too_many_requests"

    def __init__(self, seconds: int) -> None:
        super().__init__("The client made more requests in this minute than RATE_LIMIT allows.")
        self.retry_after = seconds


class BodyTimeout(ServiceError):
    """The body did not come within REQUEST_TIMEOUT."""

    status = HTTPStatus.REQUEST_TIMEOUT
    kind = "body_timeout"


class Disconnected(Exception):
    """The caller has gone: there is nobody to answer."""


class DeadlineExceeded(ServiceError):
    """The request was not answered within REQUEST_TIMEOUT."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    kind = "timeout"
