"""The number of a registered model's version. It comes from a registry, and goes into headers, paths and labels."""

import re
from typing import Annotated

import msgspec

PATTERN = r"^[0-9]{1,20}(?![\s\S])"
"""Not `$`, which Python also finds before a line's end; and no digits but ASCII's."""

VersionNumber = Annotated[str, msgspec.Meta(pattern=PATTERN)]


def is_version_number(text: str) -> bool:
    """Whether a text can be the number of a version."""
    return re.match(PATTERN, text) is not None
