"""The backends of an engine: choice of the cheapest for a batch, chunks, and fallback to the CPU."""

import logging
import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.backend import AnyForest, Backend, Explains, Outcome, OutOfDeviceMemory, Pipeline
from kernels.cost import Cost, measure, measure_larger, vary
from kernels.cpu.backend import CpuBackend
from kernels.cuda.device_thread import DEVICE
from kernels.forest.explanation.paths import Paths
from kernels.forest.forest import Forest

T = TypeVar("T")
Device = Literal["auto", "cpu", "cuda"]

SMALLEST_CHUNK = 1024
"""Rows of the smallest chunk: a batch goes to the CPU where the device has no memory even for these."""

log = logging.getLogger(__name__)


class DeviceError(ValueError):
    """The requested device cannot be used."""


class BackendStatus(msgspec.Struct, frozen=True):
    """The state of a backend in use.

    Attributes:
        device: Product name of the hardware.
        uuid: UUID of the GPU; None for a processor.
        cost: Cost of batches; None before `warm_up`.
        largest_chunk: Rows of the largest chunk since it ran out of memory; None if it never did.
        out_of_memory: Number of times it ran out of memory.
    """

    device: str
    uuid: str | None
    cost: Cost | None
    largest_chunk: int | None
    out_of_memory: int


class Disabled(NamedTuple):
    """A backend that failed: name, product name of its hardware if known, and error."""

    name: str
    device: str | None
    reason: str


class Dispatcher:
    """The backends of an engine. Safe to use from several threads.

    Each batch goes to the backend that is cheapest for its size. A GPU that fails is disabled for good (its context may
    be dead), and the CPU answers the same batch. A GPU that runs out of memory gets smaller chunks from then on, or the
    CPU answers.

    Args:
        backends: All backends, the fallback last.
        disabled: A backend that could not be made.

    Attributes:
        backends: All backends, in use or not.
        cpu: The fallback.
        disabled: The backend that is no longer used.
    """

    def __init__(self, backends: tuple[Backend, ...], disabled: Disabled | None) -> None:
        self.backends, self.disabled = backends, disabled
        self.cpu = backends[-1]
        self._usable = backends
        # Read once: a dead device may not give its name.
        self._devices = {backend.name: backend.device for backend in backends}
        self._uuids = {backend.name: backend.uuid for backend in backends}
        self._costs: dict[str, Cost] = {}
        self._chunks: dict[str, int] = {}
        self._out_of_memory: dict[str, int] = {}
        self._lock = threading.Lock()

    def on_device(self, rows: int) -> bool:
        """Whether a batch of this many rows goes to a GPU."""
        return len(self._usable) > 1 and self._cheapest(rows) is not self.cpu

    def chunk(self, rows: int, seconds: float, *, on_cpu: bool = False) -> int:
        """Number of rows to compute at a time; see `Engine.chunk`."""
        backend = self.cpu if on_cpu else self._cheapest(rows)
        cost = self._costs.get(backend.name)
        return max(1, rows if cost is None else min(rows, cost.rows_within(max(seconds, 2 * cost.of(1)))))

    def warm_up(self, pipeline: Pipeline, sample: NDArray[np.float64]) -> None:
        """Compile or load the kernels of a pipeline, and run it once."""
        for backend in self._usable:
            try:
                backend.warm_up(pipeline)
            except Exception as error:
                if backend is self.cpu:
                    raise
                self._disable(backend, error)
            self._run_on(backend, pipeline, sample)

    def measure(self, pipeline: Pipeline, sample: NDArray[np.float64], known: Mapping[str, Cost]) -> None:
        """Measure what batches cost on each backend, unless that is known of all of them."""
        usable = self._usable
        costs = [known.get(self._devices[backend.name]) for backend in usable]
        if None in costs:
            rows = vary(sample)
            costs = measure([partial(self._run_on, backend, pipeline) for backend in usable], rows)
            costs = [self._measure_larger(*found, pipeline, rows) for found in zip(usable, costs, strict=True)]
        # A backend that failed while it was measured is disabled by now, and its cost is partly the CPU's.
        self._costs = {
            backend.name: cost
            for backend, cost in zip(usable, costs, strict=True)
            if cost is not None and backend in self._usable
        }

    def _measure_larger(self, backend: Backend, cost: Cost, pipeline: Pipeline, rows: NDArray[np.float64]) -> Cost:
        """A backend's cost, extended to the rows that it computes at a time as far as it answers."""
        if backend.name in self._out_of_memory:
            return cost
        predict = partial(self._in_chunks, backend, pipeline, raw_score=False)
        larger = self._attempt(backend, lambda: measure_larger(cost, predict, rows, backend.chunk(pipeline)))
        return cost if larger is None else larger

    def costs(self) -> dict[str, Cost]:
        """Costs by device, for a later `warm_up` of the same model.

        Dispatcher that have run out of memory are left out: what was measured may be the CPU that answered for them.
        """
        return {
            self._devices[backend.name]: self._costs[backend.name]
            for backend in self._usable
            if backend.name in self._costs and backend.name not in self._out_of_memory
        }

    def cost(self, rows: int) -> float:
        """Seconds that a batch is expected to take; infinite before `measure`."""
        cost = self._costs.get(self._cheapest(rows).name)
        return math.inf if cost is None else cost.of(rows)

    def close(self) -> None:
        """Free the devices' memory, after what is under way. The CPU answers all later calls."""
        with self._lock:
            self._usable = self.backends[-1:]
        for backend in self.backends:
            backend.close()

    def status(self) -> dict[str, BackendStatus]:
        """The backends in use, by name."""
        return {
            backend.name: BackendStatus(
                device=self._devices[backend.name],
                uuid=self._uuids[backend.name],
                cost=self._costs.get(backend.name),
                largest_chunk=self._chunks.get(backend.name),
                out_of_memory=self._out_of_memory.get(backend.name, 0),
            )
            for backend in self._usable
        }

    def run(self, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False) -> Outcome:
        """Evaluate on the cheapest backend, or on the CPU if that fails."""
        return self._run_on(self._cheapest(len(X)), pipeline, X, raw_score)

    def try_device(self, pipeline: Pipeline, X: NDArray[np.floating]) -> Outcome | None:
        """Evaluate on the cheapest backend if that is a GPU; None if it is the CPU, or fails."""
        return self._try(self._cheapest(len(X)), pipeline, X)

    @property
    def explains(self) -> bool:
        """Whether there is a GPU in use that explains."""
        return isinstance(self._usable[0], Explains)

    def try_explain(self, pipeline: Pipeline, X: NDArray[np.floating], paths: Paths) -> NDArray[np.float64] | None:
        """Contributions by the GPU, as `Explains` gives them; None if there is none, or it fails."""
        backend = self._usable[0]
        if not isinstance(backend, Explains):
            return None
        return self._attempt(backend, lambda: backend.explain(pipeline, X, paths))

    def _run_on(
        self, backend: Backend, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False
    ) -> Outcome:
        """Evaluate on this backend, or on the CPU if it fails or has failed."""
        outcome = self._try(backend, pipeline, X, raw_score)
        return self.cpu.evaluate(pipeline, X, raw_score) if outcome is None else outcome

    def _try(
        self, backend: Backend, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool = False
    ) -> Outcome | None:
        """Evaluate on this backend; None if it is the CPU, fails, or has failed."""
        return self._attempt(backend, lambda: self._in_chunks(backend, pipeline, X, raw_score))

    def _attempt(self, backend: Backend, work: Callable[[], T]) -> T | None:
        """What work on this backend gives; None if it is the CPU, fails, or has failed."""
        if backend is not self.cpu and backend in self._usable:
            try:
                return work()
            except OutOfDeviceMemory:  # even for the smallest chunk
                self._count_out_of_memory(backend)
            except Exception as error:  # whatever a driver raises, the CPU can answer
                self._disable(backend, error)
        return None

    def _in_chunks(self, backend: Backend, pipeline: Pipeline, X: NDArray[np.floating], raw_score: bool) -> Outcome:
        """Evaluate in the largest chunks that the backend's memory has sufficed for so far."""
        chunk = max(1, min(len(X), self._chunks.get(backend.name, len(X))))
        outcomes: list[Outcome] = []
        start = 0
        while start < len(X) or not outcomes:
            try:
                outcomes.append(backend.evaluate(pipeline, X[start : start + chunk], raw_score))
                start += chunk
            except OutOfDeviceMemory:
                chunk //= 2
                if chunk < SMALLEST_CHUNK:
                    raise
                self._count_out_of_memory(backend, chunk)
        return outcomes[0] if len(outcomes) == 1 else _joined(outcomes)

    def _count_out_of_memory(self, backend: Backend, chunk: int | None = None) -> None:
        """Count it, and limit later chunks to this many rows."""
        name = backend.name
        with self._lock:
            count = self._out_of_memory[name] = self._out_of_memory.get(name, 0) + 1
            if chunk is not None:
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
            if backend not in self._usable:  # later errors of a dead device do not say how it died
                return
            self._usable = tuple(other for other in self._usable if other is not backend)
            self.disabled = Disabled(backend.name, self._devices[backend.name], _reason(error))
        log.error("backend failed and is no longer used", extra={"backend": backend.name}, exc_info=error)
        backend.close()


def _joined(outcomes: list[Outcome]) -> Outcome:
    distances = [outcome.distance for outcome in outcomes if outcome.distance is not None]
    return Outcome(
        tuple(np.concatenate(parts) for parts in zip(*(outcome.predictions for outcome in outcomes), strict=True)),
        np.concatenate(distances) if distances else None,
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def find_backends(device: Device, forests: tuple[AnyForest, ...]) -> tuple[tuple[Backend, ...], Disabled | None]:
    """The backends for a device, the CPU last, and the one that cannot be made. Imports CUDA only if it may be used."""
    cpu = CpuBackend()
    if device == "cpu":
        return (cpu,), None
    from kernels.cuda.availability import cuda_unavailable_reason
    from kernels.cuda.backend import CudaBackend
    from kernels.cuda.layout import too_large

    disabled = None if DEVICE.lost is None else Disabled(CudaBackend.name, None, DEVICE.lost)
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
            disabled = Disabled(CudaBackend.name, None, reason)
    if device == "cuda":
        raise DeviceError(f"CUDA was asked for and cannot be used: {reason}")
    return (cpu,), disabled
