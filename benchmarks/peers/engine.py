"""What every engine's file offers the benchmark."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""Raw scores float64[B] of rows float64[B, F]."""


class Engine(Protocol):
    """A file of this folder.

    Attributes:
        PACKAGES: The distributions whose versions the report states, beside the project's own.
    """

    PACKAGES: tuple[str, ...]

    def build(self, text: Path, kept: Path) -> None:
        """Compile or convert LightGBM's text into the folder `kept`, once."""
        ...

    def load(self, text: Path, kept: Path) -> Predict:
        """Make ready to predict, from the text or from what `build` left."""
        ...
