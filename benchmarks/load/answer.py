"""Parser of HTTP/1.1 answers, as much as a load generator needs: status, first bytes of the body, end."""

DROPPED = 0
"""Status of a request without a complete answer, or one that was never sent."""


class BadAnswer(Exception):
    """The end of an answer cannot be determined."""


class Answer:
    """Incremental parser of one answer.

    Args:
        start_bytes: Of the body, so many are kept.

    Attributes:
        status: Once its head is there.
        start: The body's first bytes.
        closes: Whether the server closes the connection after it.
    """

    def __init__(self, start_bytes: int) -> None:
        self.status = DROPPED
        self.start = b""
        self.closes = False
        self._start_bytes = start_bytes
        self._rest = b""
        self._missing = 0  # of the body, or of the chunk that is being read
        self._chunked = False

    def feed(self, data: bytes) -> bool:
        """Parse the next bytes, and return whether the answer is complete.

        Raises:
            BadAnswer: It has neither a length nor chunks, or is no HTTP.
        """
        if not self.status:
            data = self._rest + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return False
            self._rest = b""
            self._head(data[: end + 2].lower())
            data = data[end + 4 :]
        return self._chunks(self._rest + data) if self._chunked else self._body(data)

    def _head(self, head: bytes) -> None:
        self.closes = b"\r\nconnection: close\r\n" in head
        at = head.find(b"\r\ncontent-length:")
        try:
            self.status = int(head[9:12])
            if at >= 0:
                self._missing = int(head[at + 17 : head.index(b"\r", at + 17)])
            elif b"\r\ntransfer-encoding: chunked\r\n" in head:
                self._chunked = True
            elif self.status not in (204, 304):
                raise BadAnswer(f"neither a length nor chunks in {head[:200]!r}")
        except ValueError:
            raise BadAnswer(f"no head of an answer: {head[:200]!r}") from None

    def _body(self, data: bytes) -> bool:
        if len(self.start) < self._start_bytes:
            self.start += data[: self._start_bytes - len(self.start)]
        self._missing -= len(data)
        return self._missing <= 0

    def _chunks(self, data: bytes) -> bool:
        """Parse chunks. `_missing` includes the line end after a chunk's data, which is not part of the body."""
        at = 0
        while True:
            if self._missing:
                part = data[at : at + self._missing]
                if len(self.start) < self._start_bytes:
                    content = part[: max(self._missing - 2, 0)]
                    self.start += content[: self._start_bytes - len(self.start)]
                self._missing -= len(part)
                at += len(part)
                if self._missing:
                    self._rest = b""
                    return False
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                return False
            try:
                size = int(data[at:end].partition(b";")[0], 16)
            except ValueError:
                raise BadAnswer(f"no size of a chunk: {data[at:end][:50]!r}") from None
            if size == 0:  # what follows it are trailers, which nobody here sends, and an empty line
                self._rest = data[at:]
                return data.endswith(b"\r\n\r\n", end)
            self._missing = size + 2
            at = end + 2
