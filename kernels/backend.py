"""The interface of a target (the CPU or a GPU), and the data that goes in and comes out."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kernels.forest.booster import BoosterForest
from kernels.forest.explanation.paths import Paths
from kernels.forest.forest import Forest
from kernels.plan.program import Program

AnyForest = Forest | BoosterForest


class Pipeline(NamedTuple):
    """The computation from raw features to predictions.

    Attributes:
        program: Transformation of raw features into the forests' features; None where these are the raw ones.
        forests: Forests that all take the same features.
        distance: Index of the feature to return with the predictions: the distance to the nearest stored row.
    """

    program: Program | None
    forests: tuple[AnyForest, ...]
    distance: int | None = None


class Outcome(NamedTuple):
    """The result of a batch.

    Attributes:
        predictions: For each forest float64[B], or float64[B, K] for K > 1 outputs.
        distance: float32[B], the feature that the pipeline names; None if it names none.
    """

    predictions: tuple[NDArray[np.float64], ...]
    distance: NDArray[np.float32] | None = None


class OutOfDeviceMemory(MemoryError):
    """The batch does not fit into the device's memory. A smaller batch may."""


@runtime_checkable
class Backend(Protocol):
    """A target: the CPU, a GPU, or a test double. Must be safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Short name, such as `cpu`, under which costs and failures are reported."""
        ...

    @property
    def device(self) -> str:
        """Product name of the hardware. Read once, when an engine is made."""
        ...

    @property
    def uuid(self) -> str | None:
        """UUID of the hardware as NVML gives it; None for a processor. Read once, when an engine is made."""
        ...

    def chunk(self, pipeline: Pipeline) -> int:
        """Rows that are computed at a time. The time of larger batches is proportional to their rows."""
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
        """Compile or load the kernels of every call, and those of a pipeline, so that no request waits for them."""
        ...

    def close(self) -> None:
        """Free its memory once calls in progress have ended. Later calls may fail."""
        ...


@runtime_checkable
class Explains(Protocol):
    """What a GPU does besides. On the CPU a forest explains itself."""

    def explain(self, pipeline: Pipeline, X: NDArray[np.floating], paths: Paths) -> NDArray[np.float64]:
        """Contributions of features to raw scores, of the same inputs to the same bits: float64[B, K, O].

        Args:
            pipeline: Of one forest.
            X: float[B, F] raw features.
            paths: Of all of its trees, or of the first ones. What the device needs of them is kept for the next call
                with the same object.

        Raises:
            OutOfDeviceMemory: The device's memory does not suffice now.
        """
        ...
