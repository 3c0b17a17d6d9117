"""Why a model is refused: the check that it failed, and the exact reason."""

from typing import Literal

Check = Literal["artifact", "agreement", "digest", "metrics", "kernels", "prediction", "interface"]
"""What a model can fail: its files, that they agree, and the checks of `gates`."""


MAX_REASON = 2000
"""Characters. A reason may quote names of the model's, which are as long and as many as its author likes."""


class ModelRefused(Exception):
    """The model cannot be served; the message is the exact reason.

    Attributes:
        check: What it failed.
    """

    def __init__(self, reason: str, check: Check = "artifact") -> None:
        super().__init__(reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]} …")
        self.check: Check = check
