"""A stable share of all values, such as the requests that a canary answers."""

from hashlib import blake2b

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
