"""Version numbers of registered models. A registry sends them, and they go into headers, paths and labels."""

import re
from typing import Annotated

import msgspec

PATTERN = r"^[0-9]{1,20}(?![\s\S])"
"""The end is no `$`, which would also match before a newline; the digits are ASCII only."""

VersionNumber = Annotated[str, msgspec.Meta(pattern=PATTERN)]


def is_version_number(text: str) -> bool:
    """Whether a text is a valid version number."""
    return re.match(PATTERN, text) is not None
