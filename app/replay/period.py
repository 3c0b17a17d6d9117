"""Times as people type them, which may count from now."""

import re
from datetime import UTC, datetime, timedelta

from app.prediction_log.reading.moment import FORMS, read_moment

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, now: datetime) -> datetime:
    """Read a time; one without a zone is UTC.

    Args:
        text: As of `read_moment`, or a number with the unit s, m, h or d for a time ago.
        now: What a time ago counts from.

    Raises:
        ValueError: The text is no time.
    """
    try:
        if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
            return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        moment = read_moment(text)
    except (ValueError, OverflowError):
        raise ValueError(f"must be {FORMS}, or a time ago such as 90m, 24h or 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
