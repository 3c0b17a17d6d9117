"""Whether a GPU can be used here, and why not. Importing this module needs neither a GPU nor numba-cuda."""

import importlib.util
from typing import Any

from kernels.cuda.device_thread import DEVICE


class CudaUnavailableError(RuntimeError):
    """No GPU can be used. The message says what is missing."""


def cuda_unavailable_reason() -> str | None:
    """Why CUDA cannot be used here, or None if it can. Never raises."""
    if DEVICE.lost is not None:
        return f"the process must be restarted, since its CUDA context has died: {DEVICE.lost}"
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    try:
        from numba import config, cuda

        if config.ENABLE_CUDASIM:  # pyright: ignore[reportAttributeAccessIssue]
            return "NUMBA_ENABLE_CUDASIM is set, and numba's simulator is no GPU"
        cuda.detect  # noqa: B018  an attribute only of a numba.cuda that loaded whole
        if not cuda.is_available():
            return _driver_error(cuda)
        if len(cuda.gpus) == 0:
            return "the CUDA driver lists no device"
    except Exception as error:  # a broken driver or toolkit shows in many types
        return f"{type(error).__name__}: {error}"
    return None


def _driver_error(cuda: Any) -> str:
    """The driver's own message where it cannot be used."""
    try:
        cuda.current_context()
    except Exception as error:
        return " ".join(str(error).split())
    return "the CUDA driver or libNVVM cannot be loaded"
