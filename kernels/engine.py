"""A feature plan, a forest, and the targets that compute them: raw features in, predictions out."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend
from kernels.cost import Cost, measure
from kernels.cpu import CpuBackend
from kernels.forest import Forest
from kernels.plan import Neighbours, Plan, PlanError
from kernels.program import Program

Device = Literal["auto", "cpu", "cuda"]

log = logging.getLogger(__name__)


class EngineError(ValueError):
    """Plan and forest do not fit, or the device that was asked for is not there."""


class Evaluation(NamedTuple):
    """What the engine says of a batch.

    Attributes:
        prediction: float64[B], or float64[B, K] for K > 1 outputs.
        difficulty: float64[B], the absolute error to expect; None where the engine has no forest that tells it.
        distance: float32[B], to the nearest stored row, in the plan's units; None where the plan sets no limit to it.
    """

    prediction: NDArray[np.float64]
    difficulty: NDArray[np.float64] | None = None
    distance: NDArray[np.float32] | None = None


class EngineStatus(msgspec.Struct, frozen=True):
    """What the engine computes with.

    Attributes:
        backends: Measured cost of each usable backend by name, None before `warm_up`.
        disabled: The backend that failed and is no longer used.
        disabled_reason: How it failed.
    """

    backends: dict[str, Cost | None]
    disabled: str | None
    disabled_reason: str | None


class Engine:
    """Predicts from raw features. Safe to call from several threads at once.

    A batch goes to the backend that is measured to be cheaper for its size. When a GPU fails it is given up for good
    (its context may be poisoned), and the same batch is answered by the CPU.

    Args:
        forest: The trees.
        plan: How raw features become the forest's; without one they are the same.
        table: float64[N, C], the plan's stored rows, where it has references.
        difficulty: A second forest on the same features, which predicts the first one's absolute error.
        device: "auto" takes a GPU where there is one, "cpu" never, "cuda" insists.
        backends: Instead of the device's own, for tests; the last one is the one to fall back to.

    Attributes:
        outside_distance: A row farther than this from its nearest stored row is unlike all that training saw; None
            where the plan does not say.

    Raises:
        EngineError: The plan's outputs are not the features of both forests, its table is missing or not as it says,
            or there is no GPU for "cuda".
    """

    def __init__(
        self,
        forest: Forest,
        plan: Plan | None = None,
        table: NDArray[np.float64] | None = None,
        difficulty: Forest | None = None,
        *,
        device: Device = "auto",
        backends: Sequence[Backend] | None = None,
    ) -> None:
        self.forest = forest
        self.plan = plan
        self._difficulty = difficulty
        if plan is None and table is not None:
            raise EngineError("there is a table of stored rows, and no plan that reads it")
        try:
            self._program = None if plan is None else plan.program(table)
        except PlanError as error:
            raise EngineError(str(error)) from error
        self.outside_distance: float | None = None
        self._distance_column: int | None = None
        if plan is not None:
            _check_fit(plan, forest)
            for step in plan.reference_steps:
                if isinstance(step, Neighbours) and step.outside_distance is not None:
                    self.outside_distance = step.outside_distance
                    self._distance_column = plan.outputs.index(step.nearest)
        if difficulty is not None:
            _check_difficulty(forest, difficulty)
        self._backends = tuple(_backends(device) if backends is None else backends)
        self._costs: dict[str, Cost] = {}
        self._disabled: tuple[str, str] | None = None

    @property
    def input_names(self) -> tuple[str, ...]:
        """The raw features' names, in column order."""
        return self.forest.feature_names if self.plan is None else self.plan.input_names

    @property
    def n_inputs(self) -> int:
        """F, the number of raw features."""
        return len(self.input_names)

    def transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Raw features float[B, F] to the forest's: float32 by the plan, or X itself without one.

        Raises:
            ValueError: X has not F columns.
        """
        if self._program is None:
            return X
        if X.ndim != 2 or X.shape[1] != self.n_inputs:
            raise ValueError(f"expected an array of shape (rows, {self.n_inputs}), got {X.shape}")
        return self._transform_on(self._cheapest(len(X)), self._program, X)

    def predict(self, X: NDArray[np.floating], raw_score: bool = False) -> NDArray[np.float64]:
        """Predict a batch.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.
            raw_score: The sum of the leaf values, without the objective's transformation.

        Returns:
            float64[B], or float64[B, K] for K > 1 outputs.

        Raises:
            ValueError: X has not F columns.
        """
        return self.forest.predict(self.transform(X), raw_score)

    def evaluate(self, X: NDArray[np.floating]) -> Evaluation:
        """Predict a batch, and say what is known of how far to trust it.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.

        Raises:
            ValueError: X has not F columns.
        """
        return self._evaluate(self.transform(X))

    def warm_up(self, sample: NDArray[np.float64]) -> None:
        """Compile or load the kernels and measure what a batch costs on each backend.

        Args:
            sample: float64[N, F], N >= 1; rows to measure with.
        """
        for backend in self._usable():
            try:
                backend.warm_up()
            except Exception as error:
                if backend is self._backends[-1]:
                    raise
                self._disable(backend, error)
        usable = self._usable()
        costs = measure([partial(self._evaluate_on, backend) for backend in usable], sample)
        # A backend that failed while it was measured is off by now, and its cost partly the CPU's.
        self._costs = {
            backend.name: cost for backend, cost in zip(usable, costs, strict=True) if not self._is_off(backend.name)
        }

    def cost(self, rows: int) -> float:
        """Seconds that a batch is expected to take; infinite before `warm_up`."""
        return min(
            (cost.of(rows) for name, cost in self._costs.items() if not self._is_off(name)), default=float("inf")
        )

    def status(self) -> EngineStatus:
        """What the engine computes with now."""
        name, reason = self._disabled or (None, None)
        return EngineStatus({backend.name: self._costs.get(backend.name) for backend in self._usable()}, name, reason)

    def _evaluate_on(self, backend: Backend, X: NDArray[np.float64]) -> Evaluation:
        return self._evaluate(X if self._program is None else self._transform_on(backend, self._program, X))

    def _evaluate(self, features: NDArray[np.floating]) -> Evaluation:
        return Evaluation(
            self.forest.predict(features),
            None if self._difficulty is None else self._difficulty.predict(features),
            None if self._distance_column is None else features[:, self._distance_column].astype(np.float32),
        )

    def _transform_on(self, backend: Backend, program: Program, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform by this backend, or by the CPU if it fails or has failed."""
        if backend is not self._backends[-1] and not self._is_off(backend.name):
            try:
                return backend.transform(program, X)
            except Exception as error:  # whatever a driver raises, the CPU can answer
                self._disable(backend, error)
        return self._backends[-1].transform(program, X)

    def _cheapest(self, rows: int) -> Backend:
        usable = self._usable()
        if len(usable) == 1 or not self._costs:
            return usable[-1]
        return min(usable, key=lambda backend: self._costs[backend.name].of(rows))

    def _usable(self) -> list[Backend]:
        return [backend for backend in self._backends if not self._is_off(backend.name)]

    def _is_off(self, name: str) -> bool:
        return self._disabled is not None and self._disabled[0] == name

    def _disable(self, backend: Backend, error: Exception) -> None:
        self._disabled = (backend.name, f"{type(error).__name__}: {error}"[:300])
        log.error("backend failed and is no longer used", extra={"backend": backend.name}, exc_info=error)


def _backends(device: Device) -> list[Backend]:
    """The device's backends, the CPU last. Nothing of CUDA is imported unless it may be used."""
    cpu = CpuBackend()
    if device == "cpu":
        return [cpu]
    from kernels.cuda import CudaBackend, cuda_unavailable_reason

    reason = cuda_unavailable_reason()
    if reason is None:
        return [CudaBackend(), cpu]
    if device == "cuda":
        raise EngineError(f"CUDA was asked for and cannot be used: {reason}")
    return [cpu]


def _check_difficulty(forest: Forest, difficulty: Forest) -> None:
    if forest.n_outputs != 1 or difficulty.n_outputs != 1:
        raise EngineError("a forest that predicts the absolute error goes with a forest of one output, and has one")
    if difficulty.feature_names != forest.feature_names:
        raise EngineError("the forest that predicts the absolute error takes other features than the booster")


def _check_fit(plan: Plan, forest: Forest) -> None:
    if len(plan.outputs) != forest.n_features:
        raise EngineError(f"the plan makes {len(plan.outputs)} features, the booster takes {forest.n_features}")
    unnamed = all(name == f"Column_{index}" for index, name in enumerate(forest.feature_names))
    stored = tuple("_".join(name.split(" ")) for name in plan.outputs)
    if not unnamed and stored != forest.feature_names:
        different = next(index for index, name in enumerate(stored) if name != forest.feature_names[index])
        raise EngineError(
            f"the plan's feature {different} is {plan.outputs[different]!r}, "
            f"the booster's is {forest.feature_names[different]!r}"
        )
