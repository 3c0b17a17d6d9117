"""What the engine needs of a target, and what it gives to one."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kernels.forest.booster import BoosterForest
from kernels.forest.forest import Forest
from kernels.plan.program import Program

AnyForest = Forest | BoosterForest


class Pipeline(NamedTuple):
    """What is computed of a row.

    Attributes:
        program: How raw features become the forests'; without one they are the same.
        forests: All take the same features.
        distance: The feature that is wanted besides the predictions.
    """

    program: Program | None
    forests: tuple[AnyForest, ...]
    distance: int | None = None


class Outcome(NamedTuple):
    """What came of a batch.

    Attributes:
        predictions: Of each forest float64[B], or float64[B, K] for K > 1 outputs.
        distance: float32[B], the feature that the pipeline asks for.
    """

    predictions: tuple[NDArray[np.float64], ...]
    distance: NDArray[np.float32] | None = None


class OutOfDeviceMemory(MemoryError):
    """The batch does not fit into the device's memory; a smaller one may."""


@runtime_checkable
class Backend(Protocol):
    """A target: the CPU, a GPU, or a test's double of one. Must be safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Such as `cpu`, by which costs and failures are reported."""
        ...

    @property
    def device(self) -> str:
        """The hardware, such as its product name; asked for once, when an engine is made."""
        ...

    @property
    def uuid(self) -> str | None:
        """The hardware's UUID as NVML tells it, likewise; None where there is none."""
        ...

    def chunk(self, pipeline: Pipeline) -> int:
        """Rows that it computes at a time: of larger batches the time is in proportion to the rows."""
        ...

    def transform(self, program: Program, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw features float[B, F] to model features float32[B, O]."""
        ...

    def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        """Raw features float[B, F] to predictions, or to raw scores.

        Raises:
            OutOfDeviceMemory: The batch is too large for the device now.
        """
        ...

    def warm_up(self, pipeline: Pipeline | None = None) -> None:
        """Compile or load what every call runs, or those of a pipeline too, so that no request waits for it."""
        ...

    def close(self) -> None:
        """Free its memory, after what is under way. It may fail from then on."""
        ...
