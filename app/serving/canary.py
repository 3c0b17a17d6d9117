"""Who answers a request: the model in use, or, for a share of the requests, the canary."""

from collections.abc import Iterable

from app.models.served import ServedModel
from app.models.slot import ModelSlot
from app.serving.share import Share

REQUEST_ID_HEADER = b"x-request-id"


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
