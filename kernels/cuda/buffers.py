"""A stream of a GPU with its buffers."""

from typing import Any

from numpy.typing import NDArray

MAX_VIEWS = 1024
"""Arrays that are kept. A backend needs fewer, as batches have 111 sizes up to a chunk of 65,536 rows."""


def rounded(rows: int) -> int:
    """The size of a batch's arrays: at least `rows`, an eighth more at most.

    numba keeps a description of every shape for ever, so there must not be as many of them as numbers of rows.
    """
    step = 1 << max(0, rows.bit_length() - 4)
    return -(-rows // step) * step


class StreamBuffers:
    """A stream with buffers of its own, by name: the device's, and the host's pinned ones, for asynchronous copies.

    Buffers are kept and grow by doubling, so that a batch allocates nothing once there was a larger one. Cutting an
    array from a device's buffer takes numba tens of µs, so the arrays are kept too. A name is of one dtype.

    Args:
        cuda: numba.cuda.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self.stream: Any = cuda.stream()
        self._device: dict[str, Any] = {}
        self._pinned: dict[str, NDArray[Any]] = {}
        self._views: dict[tuple[str, tuple[int, int]], Any] = {}

    def device(self, name: str, shape: tuple[int, int], dtype: type) -> Any:
        """An uninitialised C-contiguous array of the device."""
        view = self._views.get((name, shape))
        if view is not None:
            return view
        size = shape[0] * shape[1]
        buffer = self._device.get(name)
        if buffer is None or buffer.size < size:
            capacity = max(size, 2 * buffer.size if buffer is not None else 1024)
            # Let go of the old buffer first, so that the device need not hold both.
            self._views = {key: view for key, view in self._views.items() if key[0] != name}
            self._device.pop(name, None)
            buffer = None
            buffer = self._device[name] = self._cuda.device_array(capacity, dtype=dtype)
        if len(self._views) >= MAX_VIEWS:
            self._views.clear()
        view = self._views[name, shape] = buffer[:size].reshape(shape)
        return view

    def pinned(self, name: str, shape: tuple[int, int], dtype: type) -> NDArray[Any]:
        """An uninitialised C-contiguous array of the host's pinned memory."""
        size = shape[0] * shape[1]
        buffer = self._pinned.get(name)
        if buffer is None or buffer.size < size:
            capacity = max(size, 2 * buffer.size if buffer is not None else 1024)
            self._pinned.pop(name, None)
            buffer = None
            buffer = self._pinned[name] = self._cuda.pinned_array(capacity, dtype=dtype)
        return buffer[:size].reshape(shape)

    def release(self) -> None:
        """Wait for work in progress, and drop all buffers."""
        self.stream.synchronize()
        self._views.clear()
        self._device.clear()
        self._pinned.clear()
