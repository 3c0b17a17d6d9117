"""Arrays that a compiled function finds by their addresses, which stand in one table.

A call of a compiled function takes some tens of nanoseconds for each array that it is handed, and a kernel has a dozen.
For one row that is as long as the kernel itself takes. So the addresses of a model's arrays are a table, made once.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

from typing import Any, NoReturn

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray

ARRAY_WORDS = 3
"""Words of an array in a table: its address, and the lengths of its two dimensions, or of one and 1."""

_I64 = ir.IntType(64)


class AddressTable:
    """Numbers, and addresses of arrays that live as long as the table. It cannot be copied or pickled."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._kept: list[NDArray[Any]] = []

    def add(self, *arguments: NDArray[Any] | int) -> None:
        """Append numbers, of a word each, and arrays of one or two dimensions, of `ARRAY_WORDS`."""
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                array = np.ascontiguousarray(argument)
                self._kept.append(array)
                self._words += [array.ctypes.data, len(array), array.shape[1] if array.ndim > 1 else 1]
            else:
                self._words.append(argument)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a table of addresses has no copy: they are those of its own arrays")

    def words(self) -> NDArray[np.int64]:
        """The table as compiled functions take it; the addresses are those of this object's arrays."""
        return np.array(self._words, dtype=np.int64)


def array_at(dtype: Any, dimensions: int, *, readonly: bool = False) -> Any:
    """An intrinsic `at(table, place)`: the array whose address and lengths stand in the table from a place on."""
    array_type = types.Array(dtype, dimensions, "C", readonly=readonly)

    @intrinsic
    def at(typing_context, table, place):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            table, place = arguments
            words = context.make_array(signature.args[0])(context, builder, value=table).data
            address, *shape = (
                builder.load(builder.gep(words, [builder.add(place, ir.Constant(_I64, index))]))
                for index in range(1 + dimensions)
            )
            array = context.make_array(array_type)(context, builder)
            size = ir.Constant(_I64, context.get_abi_sizeof(context.get_data_type(dtype)))
            strides = [size] if dimensions == 1 else [builder.mul(shape[1], size), size]
            data = builder.inttoptr(address, array.data.type)
            populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
            return array._getvalue()

        return array_type(table, types.intp), generate

    return at


@intrinsic
def readonly(typing_context, array):
    """The same array, of the type of read-only ones."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return impl_ret_borrowed(context, builder, signature.return_type, arguments[0])

    return array.copy(readonly=True)(array), generate
