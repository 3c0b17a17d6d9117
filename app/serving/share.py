"""A stable share of all values, such as the requests that the canary answers."""

from hashlib import blake2b

POSITIONS = 2**64


class Share:
    """A stable share of all values.

    A hash gives every value a position on a scale, and the share is everything below its percentage. So a value is
    always in the share or never, and a larger share contains every smaller one. BLAKE2b takes half a microsecond here.
    CRC32 takes an eighth of that, but it is linear, and so uneven over values that differ in a few digits.

    Args:
        percent: Size of the share, from 0 to 100.
        purpose: Name of at most 16 bytes; shares of different purposes are independent.
    """

    def __init__(self, percent: float, purpose: bytes) -> None:
        self._end = round(percent / 100 * POSITIONS)
        self._hash = blake2b(digest_size=8, person=purpose)

    def __bool__(self) -> bool:
        """Whether any value is in the share."""
        return self._end > 0

    def __contains__(self, value: bytes) -> bool:
        """Whether a value is in the share."""
        hashed = self._hash.copy()  # faster than a new hash with the purpose
        hashed.update(value)
        return int.from_bytes(hashed.digest(), "little") < self._end
