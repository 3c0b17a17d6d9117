"""Refusal of a model: the failed check and the exact reason."""

from typing import Literal

Check = Literal["artifact", "agreement", "digest", "metrics", "kernels", "prediction", "interface"]
"""Checks that a model can fail: reading its files, joining them, and those of `app.models.checks`."""


MAX_REASON = 2000
"""Characters of a reason. It may quote names from the model, and those can be of any length and number."""


class ModelRefused(Exception):
    """The model cannot be served; the message is the exact reason.

    Attributes:
        check: The failed check.
    """

    def __init__(self, reason: str, check: Check = "artifact") -> None:
        super().__init__(reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]} …")
        self.check: Check = check
