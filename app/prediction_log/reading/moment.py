"""Times as people and programs give them, in the query of `GET /predictions` and to `madrone replay`."""

import re
from datetime import UTC, datetime

FORMS = "a time such as 2026-01-31T08:00:00Z, a date such as 2026-01-31 or 20260131, or seconds since 1970"

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}")
SECONDS = re.compile(r"[0-9]{9,11}(\.[0-9]+)?")
"""From 1973 to 5138. With fewer digits it is a date, a year or a slip, with more milliseconds or a date and a time."""


def read_moment(text: str) -> datetime:
    """Read a time, which is in UTC unless it is one without a zone.

    Args:
        text: A time as of RFC 3339, a date, which begins in UTC, or seconds since 1970.

    Raises:
        ValueError: The text is no time.
    """
    try:
        if SECONDS.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
        if DATE.fullmatch(text):
            return moment.replace(tzinfo=UTC)
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"must be {FORMS}") from None
