"""Versions of models. A registry sends their numbers, and they go into headers, paths and labels."""

import re
from typing import Annotated

import msgspec

PATTERN = r"^[0-9]{1,20}(?![\s\S])"
"""The end is no `$`, which would also match before a newline; the digits are ASCII only."""

Version = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,20}|[0-9a-f]{12})(?![\s\S])")]
"""Number in a registry, or the first 12 hexadecimal digits of a digest or id where no registry counts versions."""


def is_version_number(text: str) -> bool:
    """Whether a text is a valid version number."""
    return re.match(PATTERN, text) is not None
