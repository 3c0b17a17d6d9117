"""A stand-in for a GPU, which breaks as one does, and costs by which an engine prefers it."""

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Outcome, OutOfDeviceMemory, Pipeline
from kernels.cost import Cost
from kernels.cpu.backend import CpuBackend
from kernels.forest.explanation.paths import Paths
from kernels.plan.program import Program


class Hardware:
    """Computes what the CPU does, until it is broken.

    Args:
        fails_after: Calls that it answers, before all fail.
        fails_to_warm_up: No kernel can be compiled for it.
        most_rows: Its memory holds no more.

    Attributes:
        batches: Rows of each call.
        closed: How often its memory was freed.
    """

    name = "cuda"
    device = "NVIDIA H100"
    uuid = "GPU-0"

    def __init__(
        self, fails_after: int | None = None, fails_to_warm_up: bool = False, most_rows: int | None = None
    ) -> None:
        self.batches: list[int] = []
        self.closed = 0
        self.fails_after = fails_after
        self.fails_to_warm_up = fails_to_warm_up
        self.most_rows = most_rows

    @property
    def calls(self) -> int:
        return len(self.batches)

    def transform(self, program: Program, X: NDArray[np.floating]) -> NDArray[np.float32]:
        raise NotImplementedError

    def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        self.batches.append(len(X))
        if self.fails_after is not None and self.calls > self.fails_after:
            raise RuntimeError("an illegal memory access was encountered")
        if self.most_rows is not None and len(X) > self.most_rows:
            raise OutOfDeviceMemory(f"{len(X)} rows")
        return CpuBackend().evaluate(pipeline, X, raw_score)

    def chunk(self, pipeline: Pipeline) -> int:
        return 10_000

    def close(self) -> None:
        self.closed += 1

    def warm_up(self, pipeline: Pipeline | None = None) -> None:
        if self.fails_to_warm_up:
            raise RuntimeError("no kernel image is available")


class Explaining(Hardware):
    """Hardware that explains, too."""

    def explain(self, pipeline: Pipeline, X: NDArray[np.floating], paths: Paths) -> NDArray[np.float64]:
        self.evaluate(pipeline, X)  # fails as for a prediction
        (forest,) = pipeline.forests
        program = pipeline.program
        return forest.explainer.contributions(X if program is None else CpuBackend().transform(program, X))


def known(hardware: Cost, cpu: Cost) -> dict[str, Cost]:
    """Costs that `warm_up` need not measure."""
    return {Hardware.device: hardware, CpuBackend().device: cpu}


def line(fixed: float, per_row: float) -> Cost:
    """Of one row and of a million."""
    return Cost((1, 10**6), (fixed + per_row, fixed + per_row * 10**6))


PREFERRED = known(line(0.0, 1e-9), line(1e-3, 1e-3))
"""The hardware is the cheaper one for batches of any size."""
