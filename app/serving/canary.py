"""Choice of the model that answers a request: the model in use, or the canary for a share of the requests."""

from collections.abc import Iterable

from app.models.served import ServedModel
from app.models.slot import ModelSlot
from app.serving.share import Share

REQUEST_ID_HEADER = b"x-request-id"


class CanaryRouter:
    """Chooses between the models of a slot.

    Args:
        slot: Slot with the model in use and the canary.
        percent: Share of the values of `header` that the canary answers, from 0 to 100.
        header: Name of the header whose value decides. X-Request-ID stands for the id of the request, whether the
            client sent one or not, so that the answer shows the deciding value. The id also decides if the header is
            absent.
    """

    def __init__(self, slot: ModelSlot, percent: float, header: str) -> None:
        self._slot = slot
        self._share = Share(percent, b"canary")
        self._header = header.lower().encode()

    def choose(self, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> ServedModel:
        """Choose the model that answers a request.

        Args:
            headers: Names in lower case, and values. The first value of a repeated header counts.
            request_id: Id of the request.

        Raises:
            ModelUnavailable: No model is in use. A canary alone answers nothing.
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
