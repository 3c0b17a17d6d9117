"""A feature plan, one or two forests and the devices that compute them: raw features in, predictions out."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.backend import AnyForest, Backend, Pipeline
from kernels.cost import Cost
from kernels.cpu.single import SingleRow, single_row
from kernels.dispatch import BackendStatus, Device, DeviceError, Dispatcher, find_backends
from kernels.evaluation import Evaluation, Outputs, SingleEvaluation, evaluation_of
from kernels.explainer import Explainer, Explanation, Space
from kernels.forest.forest import Forest
from kernels.forest.status import ForestStatus
from kernels.plan.attribution import FeatureGroup
from kernels.plan.plan import Neighbours, Plan, PlanError
from kernels.rows import check_columns, writable_rows

__all__ = [
    "Engine",
    "EngineError",
    "EngineStatus",
    "Evaluation",
    "Explanation",
    "FeatureGroup",
    "Outputs",
    "SingleEvaluation",
]


class EngineError(ValueError):
    """Plan, table and forests do not fit each other, or the requested device cannot be used."""


class EngineStatus(msgspec.Struct, frozen=True):
    """The state of an engine's backends and forests.

    Attributes:
        backends: Backends in use, by name.
        disabled: Name of the backend that failed and is no longer used.
        disabled_device: Product name of its hardware; None where it failed before that was known.
        disabled_reason: Error with which it failed.
        forest: Evaluation of the forest on the CPU.
        difficulty: The same of the forest that predicts the absolute error; None without one.
    """

    backends: dict[str, BackendStatus]
    disabled: str | None
    disabled_device: str | None
    disabled_reason: str | None
    forest: ForestStatus
    difficulty: ForestStatus | None


class Engine:
    """Predicts from raw features. Safe to call from several threads at once.

    A batch goes to the backend that was measured to be cheapest for its size. When a GPU fails, the CPU answers; see
    `kernels.dispatch`.

    Args:
        forest: The trees.
        plan: Transformation of raw features into the forest's; None where these are the raw ones.
        table: float64[N, C], stored rows of a plan with references.
        difficulty: Second forest on the same features, which predicts the absolute error of the first.
        device: "auto" uses a GPU where one is available, "cpu" uses none, "cuda" requires one.
        backends: Replacement for the device's backends in tests; the last one is the fallback.

    Attributes:
        input_names: Names of the raw features, in column order.
        n_inputs: F, the number of raw features.
        outside_distance: Distance to the nearest stored row beyond which a row is unlike all training rows; None where
            the plan sets none.

    Raises:
        EngineError: The plan's outputs are not the features of both forests, its table is missing or does not match, or
            "cuda" is required and not available.
    """

    def __init__(
        self,
        forest: AnyForest,
        plan: Plan | None = None,
        table: NDArray[np.float64] | None = None,
        difficulty: AnyForest | None = None,
        *,
        device: Device = "auto",
        backends: Sequence[Backend] | None = None,
    ) -> None:
        self.forest = forest
        self.plan = plan
        self._difficulty = difficulty
        if plan is None and table is not None:
            raise EngineError("a table of stored rows needs a plan that reads it")
        try:
            program = None if plan is None else plan.program(table)
        except PlanError as error:
            raise EngineError(str(error)) from error
        self.outside_distance: float | None = None
        column: int | None = None
        if plan is not None:
            _check_fit(plan, forest)
            for step in plan.reference_steps:
                if isinstance(step, Neighbours) and step.outside_distance is not None:
                    self.outside_distance = step.outside_distance
                    column = plan.outputs.index(step.nearest)
        if difficulty is not None:
            _check_difficulty(forest, difficulty)
        forests = (forest,) if difficulty is None else (forest, difficulty)
        self._everything = Pipeline(program, forests, column)
        self._prediction = Pipeline(program, (forest,))
        self._single: SingleRow | None = None
        self.input_names: tuple[str, ...] = forest.feature_names if plan is None else plan.input_names
        self.n_inputs = len(self.input_names)
        try:
            self._dispatcher = Dispatcher(
                *(find_backends(device, forests) if backends is None else (tuple(backends), None))
            )
        except DeviceError as error:
            raise EngineError(str(error)) from error
        self._explainer = Explainer(self._prediction, plan, self._dispatcher)

    def transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Transform raw features float[B, F] into the forest's on the CPU: float32[B, O], or X itself without a plan.

        Raises:
            ValueError: X has not F columns.
        """
        program = self._everything.program
        return X if program is None else self._dispatcher.cpu.transform(program, self._checked(X))

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
        return self._dispatcher.run(self._prediction, self._checked(X), raw_score).predictions[0]

    def evaluate(self, X: NDArray[np.floating]) -> Evaluation:
        """Predict a batch, with expected error and distance to the stored rows.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.

        Raises:
            ValueError: X has not F columns.
        """
        if len(X) == 1 and self._single is not None and not self._dispatcher.on_device(1):
            return self.evaluate_single(X).batch()
        return evaluation_of(self._dispatcher.run(self._everything, self._checked(X)))

    def evaluate_single(self, X: NDArray[np.floating]) -> SingleEvaluation:
        """`evaluate` for one row float64[1, F] on the CPU, in two thirds of the time."""
        if self._single is None:
            return self.evaluate_on_cpu(X).single()
        return SingleEvaluation(*self._single.evaluate(writable_rows(self._checked(X))))

    def evaluate_on_cpu(self, X: NDArray[np.floating]) -> Evaluation:
        """`evaluate` on the CPU, even where a GPU is cheaper."""
        return evaluation_of(self._dispatcher.cpu.evaluate(self._everything, self._checked(X)))

    def raw_score_on_cpu(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """`predict` with raw scores on the CPU, even where a GPU is cheaper."""
        return self._dispatcher.cpu.evaluate(self._prediction, self._checked(X), raw_score=True).predictions[0]

    def evaluate_on_device(self, X: NDArray[np.floating]) -> Evaluation | None:
        """`evaluate` on a GPU; None where the batch would go to the CPU, or the GPU fails.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.

        Raises:
            ValueError: X has not F columns.
        """
        outcome = self._dispatcher.try_device(self._everything, self._checked(X))
        return None if outcome is None else evaluation_of(outcome)

    @property
    def explainable(self) -> str | None:
        """None if rows can be explained; else why not, a sentence."""
        return self._explainer.reason

    def explain(self, X: NDArray[np.floating], space: Space = "raw") -> Explanation:
        """Say what each feature adds to the raw scores of a batch.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.
            space: Whether to explain by the raw features or by those that a plan makes of them.

        Raises:
            ValueError: X has not F columns, or `explainable` gives a reason.
        """
        return self._explainer.explain(self._checked(X), space)

    def explains_on_device(self, rows: int) -> bool:
        """Whether the explanation of a batch goes to a GPU, which the caller's thread then waits for."""
        return self._explainer.on_device(rows)

    def explain_cost(self, rows: int) -> float:
        """Seconds that the explanation of a batch is expected to take; infinite before `warm_up`."""
        return self._explainer.cost(rows)

    def explain_chunk(self, rows: int, seconds: float) -> int:
        """How many rows of a batch to explain at a time, as many as take so many seconds; at least 1."""
        return self._explainer.chunk(rows, seconds)

    def leaves(self, X: NDArray[np.floating]) -> NDArray[np.int32]:
        """The leaf of each tree that a row comes to: int32[B, T], numbered as by LightGBM's `pred_leaf`.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.

        Raises:
            ValueError: X has not F columns.
        """
        return self._explainer.leaves(self._checked(X))

    def on_device(self, rows: int) -> bool:
        """Whether a batch of this many rows goes to a GPU, for which batches are better gathered."""
        return self._dispatcher.on_device(rows)

    def chunk(self, rows: int, seconds: float, *, on_cpu: bool = False) -> int:
        """How many rows of such a batch to compute at a time; at least 1.

        As many as take so many seconds on the backend that the batch goes to, or on the CPU. At least as many as take
        twice as long as one row: fewer would be mostly overhead.
        """
        return self._dispatcher.chunk(rows, seconds, on_cpu=on_cpu)

    def warm_up(self, sample: NDArray[np.float64], known: Mapping[str, Cost] | None = None) -> None:
        """Compile or load the kernels, choose the forests' kernels, and measure what a batch costs on each backend.

        Args:
            sample: float64[N, F], N >= 1; rows like those of requests.
            known: Costs by device, measured before. All are measured again unless the cost of every device is known.
        """
        self._dispatcher.warm_up(self._everything, sample)
        for forest in self._everything.forests:
            if isinstance(forest, Forest):
                forest.measure()
        self._dispatcher.measure(self._everything, sample, known or {})
        self._single = single_row(self._everything)
        self.evaluate_single(sample[:1])  # compiled before a request needs it
        self._explainer.measure(sample)

    def costs(self) -> dict[str, Cost]:
        """Costs by device, for a later `warm_up` of the same model."""
        return self._dispatcher.costs()

    def cost(self, rows: int) -> float:
        """Seconds that a batch is expected to take; infinite before `warm_up`."""
        return self._dispatcher.cost(rows)

    def close(self) -> None:
        """Free the devices' memory, after what is under way. The CPU answers all later calls."""
        self._dispatcher.close()

    def status(self) -> EngineStatus:
        """The current state."""
        disabled = self._dispatcher.disabled or (None, None, None)
        difficulty = None if self._difficulty is None else self._difficulty.status
        return EngineStatus(self._dispatcher.status(), *disabled, self.forest.status, difficulty)

    def _checked(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """X itself. Its shape is checked here, because a backend that raises is disabled."""
        check_columns(X, self.n_inputs)
        return X


def _check_difficulty(forest: AnyForest, difficulty: AnyForest) -> None:
    if forest.n_outputs != 1 or difficulty.n_outputs != 1:
        raise EngineError("a forest that predicts the absolute error must have one output, and so must the booster")
    if difficulty.feature_names != forest.feature_names:
        raise EngineError("the forest that predicts the absolute error takes other features than the booster")


def _check_fit(plan: Plan, forest: AnyForest) -> None:
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
