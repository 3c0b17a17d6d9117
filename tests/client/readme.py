"""The examples of app/madrone/README.md."""

import re

from tests.support import ROOT

README = (ROOT / "app" / "madrone" / "README.md").read_text(encoding="utf-8")


def examples() -> list[tuple[str, str]]:
    """Code and output of each example of the page."""
    found = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)
    assert len(found) >= 3
    return found
