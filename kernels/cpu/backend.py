"""The CPU as a target: pipelines on the calling thread."""

import math
import platform
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Outcome, Pipeline
from kernels.cost import SIZES
from kernels.cpu import references, steps
from kernels.plan.nearest import NO_LABEL
from kernels.plan.neighbours import NeighbourArrays
from kernels.plan.program import Program, pack
from kernels.rows import as_rows


class CpuBackend:
    """Evaluates pipelines on the calling thread. Has no state; safe from any number of threads."""

    name = "cpu"

    @property
    def device(self) -> str:
        """Product name of the processor, or its architecture where the system does not give the name."""
        return processor()

    @property
    def uuid(self) -> None:
        """None: a processor has none."""
        return

    def chunk(self, pipeline: Pipeline) -> int:
        """Rows that the forests' kernel for many rows computes at a time."""
        return SIZES[-1]

    def close(self) -> None:
        """Nothing to free."""

    def evaluate(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        """Raw features float[B, F] to predictions, or to raw scores.

        Raises ValueError when X has not as many columns as the pipeline has inputs.
        """
        program, forests, distance = pipeline
        features = X if program is None else self._features(program, X)
        return Outcome(
            tuple([forest.predict(features, raw_score) for forest in forests]),
            None if distance is None else features[:, distance].astype(np.float32),
        )

    def transform(
        self,
        program: Program,
        X: NDArray[np.floating],
        labels: NDArray[np.int32] | None = None,
        excluded: NDArray[np.int32] | None = None,
    ) -> NDArray[np.float32]:
        """Raw features float[B, F] of any float dtype and layout to model features float32[B, O].

        Training excludes the stored rows that have a row's label from its neighbours.

        Args:
            program: The packed plan.
            X: Raw features.
            labels: int32[N], labels of the stored rows.
            excluded: int32[B], label of the stored rows to exclude for each row; -1 for none.

        Raises ValueError when X is not of shape (B, program.n_inputs), or excluded not of shape (B,).
        """
        return self._features(program, X, labels, excluded).astype(np.float32)

    def _features(
        self,
        program: Program,
        X: NDArray[np.floating],
        labels: NDArray[np.int32] | None = None,
        excluded: NDArray[np.int32] | None = None,
    ) -> NDArray[np.float64]:
        """The features of `transform` in the form that forests take: float64[B, O], rounded to float32."""
        rows = as_rows(X, program.n_inputs)
        if excluded is not None and (labels is None or len(excluded) != len(rows)):
            raise ValueError("excluded labels must be as many as rows, and go with labels of the stored rows")
        places, features = self._stateless(program, rows)
        if not program.references:
            return features
        if excluded is None:
            excluded = np.full(len(rows), NO_LABEL, dtype=np.int32)
        for arrays in program.references:
            if isinstance(arrays, NeighbourArrays):
                stored = np.zeros(len(arrays.target), dtype=np.int32) if labels is None else labels
                if len(stored) != len(arrays.target):
                    raise ValueError(f"there must be {len(arrays.target)} labels of stored rows, got {len(stored)}")
                references.neighbours(places, arrays, stored, excluded, features)
            elif arrays.columns[0] >= 0:
                finite = np.isfinite(places[:, arrays.points]).all(axis=1)
                references.expansion(places, finite, arrays, features)
        return features

    def points(self, program: Program, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """The program's points, float64[B, P]: the values of a row that reference steps compare with stored rows.

        Raises ValueError when X is not of shape (B, program.n_inputs).
        """
        return self._stateless(program, as_rows(X, program.n_inputs))[0]

    def _stateless(
        self, program: Program, rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What reference steps read, float64[B, P], and features float64[B, O], with NaN for those of such steps."""
        n_rows = len(rows)
        places = np.empty((n_rows, len(program.points)))
        features = np.empty((n_rows, program.n_outputs))
        if program.references:
            features.fill(math.nan)  # stays where a reference step cannot compute a value
        steps.transform(rows, *program.arrays(), places, features)  # pyright: ignore[reportCallIssue]
        return places, features

    def warm_up(self, pipeline: Pipeline | None = None) -> None:
        """Compile the kernel of stateless steps or load it from numba's cache.

        This is a call with arguments of the types of every call. The kernels of reference steps are left to the first
        program that has such steps: most models have none, and they take longer to compile than all others.
        """
        self.transform(pack(("x",), (), ("x",)), np.zeros((1, 1)))


@cache
def processor() -> str:
    """Product name of the processor, or its architecture where the system does not give the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
