"""A feature plan, a forest, and the targets that compute them: raw features in, predictions out."""

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.backend import AnyForest, Backend, Outcome, OutOfDeviceMemory, Pipeline
from kernels.cost import Cost, measure, measure_larger, vary
from kernels.cpu.backend import CpuBackend
from kernels.cuda.device_thread import DEVICE
from kernels.forest.forest import Forest
from kernels.forest.status import ForestStatus
from kernels.plan.plan import Neighbours, Plan, PlanError
from kernels.rows import check_columns

Device = Literal["auto", "cpu", "cuda"]

SMALLEST_CHUNK = 1024
"""Rows. A device without memory for these is of no use to a batch, and the CPU answers it."""

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


class BackendStatus(msgspec.Struct, frozen=True):
    """What is known of a backend that is in use.

    Attributes:
        device: The hardware's product name.
        uuid: Its UUID, as that of a GPU's readings; None for a processor.
        cost: Of a batch, None before `warm_up`.
        largest_chunk: Rows that it gets at a time since it ran out of memory; None if it never did.
        out_of_memory: How often it ran out of memory.
    """

    device: str
    uuid: str | None
    cost: Cost | None
    largest_chunk: int | None
    out_of_memory: int


class EngineStatus(msgspec.Struct, frozen=True):
    """What the engine computes with.

    Attributes:
        backends: Those in use, by name.
        disabled: The backend that failed and is no longer used.
        disabled_device: Its hardware; None where it failed before that was known.
        disabled_reason: How it failed.
        forest: How the forest is evaluated on the CPU.
        difficulty: And the one that predicts the absolute error, where there is one.
    """

    backends: dict[str, BackendStatus]
    disabled: str | None
    disabled_device: str | None
    disabled_reason: str | None
    forest: ForestStatus
    difficulty: ForestStatus | None


class _Disabled(NamedTuple):
    name: str
    device: str | None
    reason: str


class Engine:
    """Predicts from raw features. Safe to call from several threads at once.

    A batch goes to the backend that is measured to be cheaper for its size. When a GPU fails it is given up for good
    (its context may have died), and the same batch is answered by the CPU. When its memory does not suffice it gets
    smaller chunks from then on, or the CPU answers.

    Args:
        forest: The trees.
        plan: How raw features become the forest's; without one they are the same.
        table: float64[N, C], the plan's stored rows, where it has references.
        difficulty: A second forest on the same features, which predicts the first one's absolute error.
        device: "auto" takes a GPU where there is one, "cpu" never, "cuda" insists.
        backends: Instead of the device's own, for tests; the last one is the one to fall back to.

    Attributes:
        input_names: The raw features' names, in column order.
        n_inputs: F, how many they are.
        outside_distance: A row farther than this from its nearest stored row is unlike all that training saw; None
            where the plan does not say.

    Raises:
        EngineError: The plan's outputs are not the features of both forests, its table is missing or not as it says,
            or "cuda" cannot be had.
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
            raise EngineError("there is a table of stored rows, and no plan that reads it")
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
        self.input_names: tuple[str, ...] = forest.feature_names if plan is None else plan.input_names
        self.n_inputs = len(self.input_names)
        self._backends, self._disabled = _backends(device, forests) if backends is None else (tuple(backends), None)
        self._usable = self._backends
        # Asked for once: a device that has died may not tell its name.
        self._devices = {backend.name: backend.device for backend in self._backends}
        self._uuids = {backend.name: backend.uuid for backend in self._backends}
        self._costs: dict[str, Cost] = {}
        self._chunks: dict[str, int] = {}
        self._out_of_memory: dict[str, int] = {}
        self._lock = threading.Lock()

    def on_device(self, rows: int) -> bool:
        """Whether a batch of this many rows goes to a GPU, for which batches are better gathered."""
        return len(self._usable) > 1 and self._cheapest(rows) is not self._backends[-1]

    def chunk(self, rows: int, seconds: float, *, on_cpu: bool = False) -> int:
        """Rows of such a batch to compute at a time, by the backend that it goes to, or by the CPU; at least 1.

        As many as take it so many seconds, or twice what it takes for one row: less would be mostly overhead.
        """
        backend = self._backends[-1] if on_cpu else self._cheapest(rows)
        cost = self._costs.get(backend.name)
        return max(1, rows if cost is None else min(rows, cost.rows_within(max(seconds, 2 * cost.of(1)))))

    def transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Raw features float[B, F] to the forest's, by the CPU: float32 by the plan, or X itself without one.

        Raises:
            ValueError: X has not F columns.
        """
        program = self._everything.program
        return X if program is None else self._backends[-1].transform(program, self._checked(X))

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
        return self._run(self._prediction, self._checked(X), raw_score).predictions[0]

    def evaluate(self, X: NDArray[np.floating]) -> Evaluation:
        """Predict a batch, and say what is known of how far to trust it.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.

        Raises:
            ValueError: X has not F columns.
        """
        return _evaluation(self._run(self._everything, self._checked(X)))

    def evaluate_on_cpu(self, X: NDArray[np.floating]) -> Evaluation:
        """As `evaluate`, by the CPU however cheap a device is."""
        return _evaluation(self._backends[-1].evaluate(self._everything, self._checked(X)))

    def evaluate_on_device(self, X: NDArray[np.floating]) -> Evaluation | None:
        """As `evaluate`, by a device; None where none can, and the CPU has not answered either.

        Args:
            X: float64[B, F] raw features; NaN is a missing value.

        Raises:
            ValueError: X has not F columns.
        """
        outcome = self._try(self._cheapest(len(X)), self._everything, self._checked(X))
        return None if outcome is None else _evaluation(outcome)

    def warm_up(self, sample: NDArray[np.float64], known: Mapping[str, Cost] | None = None) -> None:
        """Compile or load the kernels, choose the forests' kernels, and measure what a batch costs on each backend.

        Args:
            sample: float64[N, F], N >= 1; rows like those that will come.
            known: Costs that were measured before, by device. They are measured again unless all are known.
        """
        for backend in self._usable:
            try:
                backend.warm_up(self._everything)
            except Exception as error:
                if backend is self._backends[-1]:
                    raise
                self._disable(backend, error)
            self._run_on(backend, self._everything, sample)
        for forest in self._everything.forests:
            if isinstance(forest, Forest):
                forest.measure()
        usable = self._usable
        costs = [(known or {}).get(self._devices[backend.name]) for backend in usable]
        if None in costs:
            rows = vary(sample)
            costs = measure([partial(self._run_on, backend, self._everything) for backend in usable], rows)
            costs = [self._measure_larger(*found, rows) for found in zip(usable, costs, strict=True)]
        # A backend that failed while it was measured is off by now, and its cost partly the CPU's.
        self._costs = {
            backend.name: cost
            for backend, cost in zip(usable, costs, strict=True)
            if cost is not None and backend in self._usable
        }

    def _measure_larger(self, backend: Backend, cost: Cost, rows: NDArray[np.float64]) -> Cost:
        """A backend's cost up to the rows that it computes at a time, as far as it still answers."""
        if backend not in self._usable or backend.name in self._out_of_memory:
            return cost
        try:
            predict = partial(self._in_chunks, backend, self._everything, raw_score=False)
            return measure_larger(cost, predict, rows, backend.chunk(self._everything))
        except OutOfDeviceMemory:
            return cost
        except Exception as error:
            self._disable(backend, error)
            return cost

    def costs(self) -> dict[str, Cost]:
        """Costs by device, for a later `warm_up` of the same model.

        Without those of a device that has run out of memory: what was measured may be the CPU that answered for it.
        """
        return {
            self._devices[backend.name]: self._costs[backend.name]
            for backend in self._usable
            if backend.name in self._costs and backend.name not in self._out_of_memory
        }

    def cost(self, rows: int) -> float:
        """Seconds that a batch is expected to take; infinite before `warm_up`."""
        cost = self._costs.get(self._cheapest(rows).name)
        return math.inf if cost is None else cost.of(rows)

    def close(self) -> None:
        """Free the devices' memory, after what is under way. What is asked of the engine later, the CPU answers."""
        with self._lock:
            self._usable = self._backends[-1:]
        for backend in self._backends:
            backend.close()

    def status(self) -> EngineStatus:
        """What the engine computes with now."""
        disabled = self._disabled or (None, None, None)
        backends = {
            backend.name: BackendStatus(
                device=self._devices[backend.name],
                uuid=self._uuids[backend.name],
                cost=self._costs.get(backend.name),
                largest_chunk=self._chunks.get(backend.name),
                out_of_memory=self._out_of_memory.get(backend.name, 0),
            )
            for backend in self._usable
        }
        difficulty = None if self._difficulty is None else self._difficulty.status
        return EngineStatus(backends, *disabled, self.forest.status, difficulty)

    def _checked(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """X itself. That it has the right shape is asked here, since a backend that raises is given up."""
        check_columns(X, self.n_inputs)
        return X

    def _run(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        return self._run_on(self._cheapest(len(X)), pipeline, X, raw_score)

    def _run_on(
        self, backend: Backend, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False
    ) -> Outcome:
        """Evaluate by this backend, or by the CPU if it fails or has failed."""
        outcome = self._try(backend, pipeline, X, raw_score)
        return self._backends[-1].evaluate(pipeline, X, raw_score) if outcome is None else outcome

    def _try(
        self, backend: Backend, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False
    ) -> Outcome | None:
        """Evaluate by this device; None if it is none, or fails, or has failed."""
        if backend is not self._backends[-1] and backend in self._usable:
            try:
                return self._in_chunks(backend, pipeline, X, raw_score)
            except OutOfDeviceMemory:  # even for the smallest chunk, now
                pass
            except Exception as error:  # whatever a driver raises, the CPU can answer
                self._disable(backend, error)
        return None

    def _in_chunks(self, backend: Backend, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool) -> Outcome:
        """Evaluate in the largest chunks that the backend's memory has held so far."""
        chunk = max(1, min(len(X), self._chunks.get(backend.name, len(X))))
        outcomes: list[Outcome] = []
        start = 0
        while start < len(X) or not outcomes:
            try:
                outcomes.append(backend.evaluate(pipeline, X[start : start + chunk], raw_score))
                start += chunk
            except OutOfDeviceMemory:
                chunk //= 2
                self._count_out_of_memory(backend, chunk)
                if chunk < SMALLEST_CHUNK:
                    raise
        return outcomes[0] if len(outcomes) == 1 else _joined(outcomes)

    def _count_out_of_memory(self, backend: Backend, chunk: int) -> None:
        """Count it, and have later batches come in chunks of this many rows, unless those are of no use."""
        name = backend.name
        with self._lock:
            count = self._out_of_memory[name] = self._out_of_memory.get(name, 0) + 1
            if chunk >= SMALLEST_CHUNK:
                self._chunks[name] = min(chunk, self._chunks.get(name, chunk))
        if count == 1:  # a device that stays full would fill the log
            log.warning("device ran out of memory", extra={"backend": name})

    def _cheapest(self, rows: int) -> Backend:
        usable = self._usable
        if len(usable) == 1 or not self._costs:
            return usable[-1]
        return min(usable, key=lambda backend: self._costs[backend.name].of(rows))

    def _disable(self, backend: Backend, error: Exception) -> None:
        with self._lock:
            if backend not in self._usable:  # what others see of a dead device is not how it died
                return
            self._usable = tuple(other for other in self._usable if other is not backend)
            self._disabled = _Disabled(backend.name, self._devices[backend.name], _reason(error))
        log.error("backend failed and is no longer used", extra={"backend": backend.name}, exc_info=error)
        backend.close()


def _evaluation(outcome: Outcome) -> Evaluation:
    prediction, *difficulty = outcome.predictions
    return Evaluation(prediction, difficulty[0] if difficulty else None, outcome.distance)


def _joined(outcomes: list[Outcome]) -> Outcome:
    distances = [outcome.distance for outcome in outcomes if outcome.distance is not None]
    return Outcome(
        tuple(np.concatenate(parts) for parts in zip(*(outcome.predictions for outcome in outcomes), strict=True)),
        np.concatenate(distances) if distances else None,
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _backends(device: Device, forests: tuple[AnyForest, ...]) -> tuple[tuple[Backend, ...], _Disabled | None]:
    """The device's backends, the CPU last, and one that cannot be made. CUDA is only imported where it may be used."""
    cpu = CpuBackend()
    if device == "cpu":
        return (cpu,), None
    from kernels.cuda.availability import cuda_unavailable_reason
    from kernels.cuda.backend import CudaBackend
    from kernels.cuda.layout import too_large

    disabled = None if DEVICE.lost is None else _Disabled(CudaBackend.name, None, DEVICE.lost)
    reason = cuda_unavailable_reason()
    own = [forest for forest in forests if isinstance(forest, Forest)]
    if len(own) < len(forests):
        reason = "LightGBM evaluates this kind of model, and does so on the CPU"
    elif reason is None:
        reason = too_large(own)
    if reason is None:
        try:
            cuda = CudaBackend()
            log.info("backend found", extra={"backend": cuda.name, "device": cuda.device, "uuid": cuda.uuid})
            return (cuda, cpu), None
        except Exception as error:  # a driver that is too old, or a device that was there a moment ago
            log.exception("backend cannot be made", extra={"backend": CudaBackend.name})
            reason = _reason(error)
            disabled = _Disabled(CudaBackend.name, None, reason)
    if device == "cuda":
        raise EngineError(f"CUDA was asked for and cannot be used: {reason}")
    return (cpu,), disabled


def _check_difficulty(forest: AnyForest, difficulty: AnyForest) -> None:
    if forest.n_outputs != 1 or difficulty.n_outputs != 1:
        raise EngineError("a forest that predicts the absolute error goes with a forest of one output, and has one")
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
