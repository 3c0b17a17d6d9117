"""Times as people type them."""

import re
from datetime import UTC, datetime, timedelta

FORMS = "a time such as 2026-03-01T12:00:00Z, a date, seconds since 1970, or a time ago such as 90m, 24h or 7d"

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, now: datetime) -> datetime:
    """Read a time; one without a zone is UTC.

    Args:
        text: As of RFC 3339, a date, seconds since 1970, or a number with the unit s, m, h or d for a time ago.
        now: What a time ago counts from.

    Raises:
        ValueError: The text is no time.
    """
    try:
        if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
            return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        if re.fullmatch(r"[0-9]{9,}(\.[0-9]+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"must be {FORMS}") from None
