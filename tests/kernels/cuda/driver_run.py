"""Use a GPU as the service does, through numba-cuda, on the stand-in for its driver; print what was seen as JSON.

Run by test_cuda_driver.py in a process of its own, with the stand-in's folder in LD_LIBRARY_PATH. Allocations, pinned
memory, streams, and contexts by thread are numba's; kernels are not compiled and compute nothing, so that what links
them need not be installed.
Prints {"skip": reason} where numba-cuda cannot use the stand-in.
"""

import ctypes
import gc
import json
import sys
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

import tests.kernels.bare  # noqa: F401
from kernels.backend import OutOfDeviceMemory, Pipeline
from kernels.cost import Cost
from kernels.cpu.backend import CpuBackend
from kernels.cuda import backend as cuda
from kernels.cuda.availability import cuda_unavailable_reason
from kernels.cuda.backend import CudaBackend
from kernels.cuda.device_thread import DEVICE
from kernels.engine import Engine, EngineError
from kernels.forest.forest import Forest
from kernels.plan.plan import Input, Plan
from tests.kernels.forest.boosters import Split, model_text, tree_text
from tests.kernels.plan.plans import EVERY_REFERENCE, stored

DRIVER: Any = None
LEFT: list[CudaBackend] = []
KINDS = ("device", "pinned")
ROWS = np.random.default_rng(0).normal(size=(70_000, 8))  # two chunks, and so two streams
FOREST = Forest.from_model_text(model_text([tree_text([Split(0, 0.0, 0)], [0], [1.0, 2.0])], 8))
PLAN = Plan(inputs=tuple(Input(name=f"x{index}") for index in range(8)), outputs=tuple(f"x{i}" for i in range(8)))
PIPELINE = Pipeline(PLAN.program(), (FOREST,))


class NoKernel:
    """Is compiled and launched, and does nothing."""

    compiled: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, name: str) -> None:
        self._name = name

    def compile(self, _: object) -> None:
        self.compiled.append((self._name, threading.current_thread().name))

    def __getitem__(self, _: object) -> Callable[..., None]:
        return lambda *_: None


def without_kernels(module: Any) -> SimpleNamespace:
    return SimpleNamespace(**{name: NoKernel(name) for name in module.SIGNATURES}, SIGNATURES=module.SIGNATURES)


class Launching(CudaBackend):
    """All of the backend but the kernels."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("_steps", "_references", "_forest", "_contributions"):
            setattr(self.launcher, name, without_kernels(getattr(self.launcher, name)))


def held() -> dict[str, int]:
    """Bytes by kind, once the device's thread has done all that it was to do."""
    DEVICE.run(lambda: None)
    return {name: DRIVER.stand_in_count(kind) for kind, name in enumerate(KINDS)}


def without_context() -> int:
    return DRIVER.stand_in_count(2)


def preferring(device: str = "cuda") -> Engine:
    """An engine that computes everything by the device."""
    engine = Engine(FOREST, PLAN, device=device)  # type: ignore[arg-type]
    costs = {"Stand-in GPU": Cost((1,), (1e-9,)), CpuBackend().device: Cost((1,), (1.0,))}
    engine.warm_up(ROWS[:1], costs)
    return engine


def compiled() -> list[list[tuple[str, str]]]:
    """What is compiled for a model without reference steps, and for one with such, and by which thread."""
    found = []
    for plan in (PLAN, EVERY_REFERENCE):
        NoKernel.compiled.clear()
        table = stored(plan) if plan.references else None
        backend = Launching()
        backend.warm_up(Pipeline(plan.program(table), (FOREST,)))
        found.append(list(NoKernel.compiled))
    return found


def dropped() -> dict[str, Any]:
    """Backends whose last reference dies in a thread that never had a context."""
    before, most = held(), 0
    for _ in range(12):
        box = [Launching()]
        box[0].evaluate(PIPELINE, ROWS)
        most = max(most, held()["device"])
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
    box = [Launching()]
    box[0].evaluate(PIPELINE, ROWS)
    box.append(box)  # type: ignore[arg-type]  a circle, which a collection finds
    del box
    gc.collect()
    return {"before": before, "most": most, "after": held(), "without context": without_context()}


def swapped() -> dict[str, Any]:
    """An engine that is replaced while a request is on its way to it."""
    before, engine = held(), preferring()
    assert len(engine.predict(ROWS)) == len(ROWS)
    free, answers = threading.Event(), []
    DEVICE.submit(free.wait)
    thread = threading.Thread(target=lambda ask: answers.append(len(ask(ROWS))), args=(engine.predict,))
    thread.start()
    alive = weakref.ref(engine)
    del engine
    free.set()
    thread.join()
    del thread
    return {"before": before, "answers": answers, "alive": alive() is not None, "after": held()}


def closed() -> dict[str, Any]:
    """An engine that is closed while it is still used."""
    before, engine = held(), preferring()
    engine.predict(ROWS)
    (backend, _), error = engine._dispatcher.backends, ""
    explained = backend.explain(PIPELINE, ROWS, FOREST.explainer.paths).shape
    during = held()
    engine.close()
    try:
        backend.evaluate(PIPELINE, ROWS)
    except RuntimeError as raised:
        error = str(raised)
    right = bool((engine.predict(ROWS) == FOREST.predict(ROWS.astype(np.float32))).all())
    return {
        "before": before, "during": during, "after": held(), "error": error, "right": right, "explained": explained
    }  # fmt: skip


def sizes() -> dict[str, Any]:
    """Batches of many sizes, and then of as many others."""
    from numba.cuda.cudadrv.dummyarray import Array

    backend = Launching()
    backend.evaluate(PIPELINE, ROWS)
    described = [Array.from_desc.cache_info().currsize]
    for first in (1, 2):
        for count in (*range(1, 33), *range(first, 3000, 3)):
            backend.evaluate(PIPELINE, ROWS[:count])
        described.append(Array.from_desc.cache_info().currsize)
    return {"described": described}


def short(kind: int) -> dict[str, Any]:
    """A batch for which there is too little memory of a kind."""
    backend = Launching()
    backend.evaluate(PIPELINE, ROWS[:1000])
    kept = held()
    DRIVER.stand_in_limit(kind, kept[KINDS[kind]] + 100_000)
    error = ""
    try:
        backend.evaluate(PIPELINE, ROWS)
    except OutOfDeviceMemory as raised:
        error = str(raised)
    after = held()
    DRIVER.stand_in_limit(kind, 2**62)
    again = len(backend.evaluate(PIPELINE, ROWS).predictions[0])
    backend.close()
    return {"error": error, "kept": kept, "after": after, "again": again}


def died() -> dict[str, Any]:
    """A kernel that kills the context: no engine after it can use the device."""
    engine = preferring()
    engine.predict(ROWS[:10])
    DRIVER.stand_in_die(700)
    right = bool((engine.predict(ROWS) == FOREST.predict(ROWS.astype(np.float32))).all())
    following = Engine(FOREST, PLAN)
    following.warm_up(ROWS[:1])
    refusal = ""
    try:
        Engine(FOREST, PLAN, device="cuda")
    except EngineError as raised:
        refusal = str(raised)
    statuses = [one.status() for one in (engine, following)]
    return {
        "right": right,
        "disabled": [[status.disabled, status.disabled_reason] for status in statuses],
        "backends": [sorted(status.backends) for status in statuses],
        "refusal": refusal,
        "unavailable": cuda_unavailable_reason(),
    }


def main() -> dict[str, Any]:
    global DRIVER
    reason = cuda_unavailable_reason()
    if reason is not None:
        return {"skip": reason}
    DRIVER = ctypes.CDLL("libcuda.so.1")
    DRIVER.stand_in_count.restype = ctypes.c_int64
    DRIVER.stand_in_limit.argtypes = [ctypes.c_int, ctypes.c_int64]
    cuda.CudaBackend = Launching  # type: ignore[misc]
    sys.unraisablehook = lambda unraisable: errors.append(str(unraisable.exc_value))
    errors: list[str] = []
    first = Launching()
    seen: dict[str, Any] = {"device": [first.device, first.uuid]}
    first.evaluate(PIPELINE, ROWS)
    first.close()
    seen |= {"compiled": compiled(), "dropped": dropped(), "swapped": swapped(), "closed": closed(), "sizes": sizes()}
    seen |= {f"short of {name}": short(kind) for kind, name in enumerate(KINDS)}
    seen["died"] = died()
    # It lives again, which a real one does not, and the process ends with memory that nobody has freed.
    DRIVER.stand_in_die(0)
    cuda._left_to_the_driver.close()
    DEVICE.lost = None
    LEFT.append(Launching())
    seen["left"] = len(LEFT[0].evaluate(PIPELINE, ROWS).predictions[0])
    return seen | {"errors": errors}


if __name__ == "__main__":
    print(json.dumps(main()))
