"""What a call can fail with: one family of exceptions, whose texts name fields and never the key."""

import msgspec

MOST_IN_TEXT = 20
"""Most faults of fields in the text of an error; all of them are in its `errors`."""


class FieldError(msgspec.Struct, frozen=True):
    """Fault of one field of a request.

    Attributes:
        field: Name of the field, such as a feature.
        message: What is wrong with it.
    """

    field: str
    message: str


class MadroneError(Exception):
    """A call that was not answered as it should be.

    Attributes:
        detail: What happened, in a sentence.
        errors: Faults of fields.
        status: HTTP status of the answer; None if there was none.
        kind: Kind of the problem as the service names it, such as `invalid-input`; empty if it named none.
        request_id: Id under which the service's log has the request; empty if there was no answer.
        retry_after: Seconds after which the service asked to try again; None if it did not.
    """

    def __init__(
        self, detail: str, *, errors: tuple[FieldError, ...] = (), status: int | None = None, kind: str = "",
        request_id: str = "", retry_after: float | None = None,
    ) -> None:  # fmt: skip
        self.detail, self.errors, self.status = detail, list(errors), status
        self.kind, self.request_id, self.retry_after = kind, request_id, retry_after
        more = [f"{fault.field}: {fault.message}" for fault in errors[:MOST_IN_TEXT]]
        if len(errors) > MOST_IN_TEXT:
            more.append(f"and {len(errors) - MOST_IN_TEXT} more")
        super().__init__(" ".join([detail, "; ".join(more)]) if more else detail)


class Refused(MadroneError):
    """The request cannot be answered as it is (4xx): `errors` says which fields are at fault."""


class KeyRefused(Refused):
    """The key is missing, wrong, or not for this route (401, 403)."""


class TooLarge(Refused):
    """The request has more rows or bytes than the service takes (413)."""


class Overloaded(MadroneError):
    """The service has no room for the request, or the client made too many (429, 503)."""


class Unavailable(MadroneError):
    """Nobody answers, or a service that serves no model yet (502, 503)."""


class TimedOut(MadroneError):
    """The call or the service ran out of time (408, 504)."""


class ServiceFailed(MadroneError):
    """The service or its model has a fault (other 5xx), such as a prediction that is not finite."""


class BadAnswer(MadroneError):
    """The answer is none that a Madrone service gives: something else answers at this address."""


class OtherVersion(MadroneError):
    """Another version of the model answered than the one that the call asked for, or that began to answer it."""
