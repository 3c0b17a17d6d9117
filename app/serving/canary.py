"""Who answers a request: the model in use, or, for a share of the requests, the canary."""

from collections.abc import Iterable
from hashlib import blake2b

from app.models.artifact import ServedModel
from app.models.slot import ModelSlot

REQUEST_ID_HEADER = b"x-request-id"

POSITIONS = 2**64


class Share:
    """A stable share of all values.

    A hash gives every value its place on a scale, and the share is what lies below its percentage: a value is always
    in it or never, and a greater share holds all of a smaller one. BLAKE2b takes half a microsecond here; CRC32 takes
    an eighth of one, but is linear, and so uneven over values that differ in a few digits.

    Args:
        percent: From 0 to 100.
        purpose: Shares of different purposes are independent; at most 16 bytes.
    """

    def __init__(self, percent: float, purpose: bytes) -> None:
        self._end = round(percent / 100 * POSITIONS)
        self._hash = blake2b(digest_size=8, person=purpose)

    def __bool__(self) -> bool:
        """Whether any value is in it."""
        return self._end > 0

    def __contains__(self, value: bytes) -> bool:
        """Whether this value is in it."""
        hashed = self._hash.copy()  # faster than to begin with the purpose anew
        hashed.update(value)
        return int.from_bytes(hashed.digest(), "little") < self._end


class CanaryRouter:
    """Chooses between the models of a slot.

    Args:
        slot: Holds them.
        percent: Share of the values of `header` that the canary answers, from 0 to 100.
        header: Its value decides. X-Request-ID stands for the id that the request is known by, given or made, so that
            its answer shows what decided; a request without another header goes by that id too.
    """

    def __init__(self, slot: ModelSlot, percent: float, header: str) -> None:
        self._slot = slot
        self._share = Share(percent, b"canary")
        self._header = header.lower().encode()

    def choose(self, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> ServedModel:
        """The model that answers a request.

        Args:
            headers: Names in lower case, and values; of a header that is repeated, the first one counts.
            request_id: What the request is known by.

        Raises:
            ModelUnavailable: No model is loaded. A canary alone answers nothing: it is there for a share only.
        """
        current = self._slot.require()
        canary = self._slot.canary
        if canary is None or not self._share:
            return current
        return canary if self._deciding(headers, request_id) in self._share else current

    def _deciding(self, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> bytes:
        if self._header != REQUEST_ID_HEADER:
            for name, value in headers:
                if name == self._header:
                    return value
        return request_id.encode()
