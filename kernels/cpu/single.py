"""One row through a whole pipeline in one compiled call.

A call of a compiled function takes a tenth of a microsecond for each array that it is handed, and a pipeline has some
forty. So for a row alone the calls took nearly as long as what they computed. Here the addresses of a pipeline's arrays
are a table, made once, in which one compiled function finds them for the functions that compute batches.
`CpuBackend.evaluate` is the plain version, and gives the same bits.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray

from kernels.backend import Pipeline
from kernels.cpu import steps
from kernels.forest import quickscorer, traversal
from kernels.forest.forest import Forest, RowKernelCall

WIDTH, DISTANCE, FORESTS, POINTS, PROGRAM = range(5)
"""Words of the table: features of the plan, 0 without one; which of them is the distance, or -1; how many forests;
points of the plan; and from here on the plan's arrays, and each forest's kernel and arguments."""

PROGRAM_ARRAYS = 8
ARRAY_WORDS = 3
"""Of an array in the table: its address, and the lengths of its two dimensions, or of one and 1."""

QUICKSCORER, TRAVERSAL = range(2)

_I64 = ir.IntType(64)


class SingleRow:
    """A pipeline, made ready for rows that come alone. Safe to use from several threads at once.

    Make it with `single_row`. It goes on with the kernels that its forests use when it is made.
    """

    def __init__(self, pipeline: Pipeline, forests: list[Forest], kernels: list[RowKernelCall]) -> None:
        program, _, distance = pipeline
        self._kept: list[NDArray[Any]] = []  # alive as long as the table has their addresses
        words = [
            0 if program is None else program.n_outputs,
            -1 if distance is None else distance,
            len(forests),
            0 if program is None else len(program.points),
        ]
        words += [0] * PROGRAM_ARRAYS * ARRAY_WORDS if program is None else self._words(program.arrays())
        for kernel, arguments in kernels:
            words += [TRAVERSAL if kernel == "traversal" else QUICKSCORER, *self._words(arguments)]
        self._table = np.array(words, dtype=np.int64)
        self._shape = (len(forests) + 1, forests[0].n_outputs)
        self._converted = [(index, forest) for index, forest in enumerate(forests) if forest.converts]
        self._has_difficulty, self._has_distance = len(forests) > 1, distance is not None

    def evaluate(self, rows: NDArray[np.float64]) -> tuple[float | list[float], float | None, float | None]:
        """Evaluate float64[1, F], C-contiguous and read-only.

        Returns:
            The prediction, a list where there are K > 1 outputs; the second forest's, None without one; and the
            distance, None where the pipeline names none.
        """
        out = np.empty(self._shape)
        evaluate(rows, self._table, out)
        for index, forest in self._converted:
            forest.finished(out[index : index + 1], raw_score=False)
        first, *others = out.tolist()
        return (
            first if len(first) > 1 else first[0],
            others[0][0] if self._has_difficulty else None,
            others[-1][0] if self._has_distance else None,
        )

    def _words(self, arguments: Iterable[NDArray[Any] | int]) -> list[int]:
        """The words of arguments in the table."""
        words: list[int] = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                array = np.ascontiguousarray(argument)
                self._kept.append(array)
                words += [array.ctypes.data, len(array), array.shape[1] if array.ndim > 1 else 1]
            else:
                words.append(argument)
        return words


def single_row(pipeline: Pipeline) -> SingleRow | None:
    """Make a pipeline ready for single rows; None for one that takes them no other way than batches.

    These are pipelines with LightGBM's own evaluation, with the bit-sliced kernel for a single row, or with steps that
    read stored rows, beside which the time of calls is nothing.
    """
    forests = [forest for forest in pipeline.forests if isinstance(forest, Forest)]
    kernels = [kernel for forest in forests if (kernel := forest.row_kernel()) is not None]
    if len(kernels) < len(pipeline.forests) or (pipeline.program is not None and pipeline.program.references):
        return None
    return SingleRow(pipeline, forests, kernels)


def _array_at(dtype: Any, dimensions: int, *, readonly: bool = False) -> Any:
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


# Read-only or not as the arrays of a program and of a layout are: other types would be other machine code.
_program_int32s = _array_at(types.int32, 1, readonly=True)
_program_pairs = _array_at(types.int32, 2, readonly=True)
_program_float64s = _array_at(types.float64, 1, readonly=True)
_int32s = _array_at(types.int32, 1)
_int32_rows = _array_at(types.int32, 2)
_uint32s = _array_at(types.uint32, 1)
_uint64s = _array_at(types.uint64, 1)
_uint64_rows = _array_at(types.uint64, 2)
_float64s = _array_at(types.float64, 1)


@intrinsic
def _readonly(typing_context, array):
    """The same array, of the type of read-only ones."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return impl_ret_borrowed(context, builder, signature.return_type, arguments[0])

    return array.copy(readonly=True)(array), generate


# Unlike the kernels for batches it keeps the GIL: to hand it to another thread and take it back costs more than a row.
@njit(cache=True, error_model="numpy")
def evaluate(rows, table, out):
    """Evaluate one row.

    Args:
        rows: float64[1, F], read-only.
        table: int64, of a `SingleRow`.
        out: float64[forests + 1, K], written: each forest's raw scores, and then the distance.
    """
    features = np.empty((1, table[WIDTH]))
    inputs = rows
    if table[WIDTH]:
        places = np.empty((1, table[POINTS]))
        steps.transform(
            rows,
            _program_int32s(table, PROGRAM),
            _program_pairs(table, PROGRAM + 1 * ARRAY_WORDS),
            _program_int32s(table, PROGRAM + 2 * ARRAY_WORDS),
            _program_int32s(table, PROGRAM + 3 * ARRAY_WORDS),
            _program_float64s(table, PROGRAM + 4 * ARRAY_WORDS),
            _program_int32s(table, PROGRAM + 5 * ARRAY_WORDS),
            _program_int32s(table, PROGRAM + 6 * ARRAY_WORDS),
            _program_int32s(table, PROGRAM + 7 * ARRAY_WORDS),
            places,
            features,
        )
        inputs = _readonly(features)
        if table[DISTANCE] >= 0:
            out[table[FORESTS], 0] = features[0, table[DISTANCE]]
    place = PROGRAM + PROGRAM_ARRAYS * ARRAY_WORDS
    for forest in range(table[FORESTS]):
        scores = out[forest : forest + 1]
        columns = _int32_rows(table, place + 1)
        thresholds = _float64s(table, place + 4)
        sets = _uint32s(table, place + 7)
        if table[place] == TRAVERSAL:
            traversal.predict(
                columns, thresholds, sets, _uint64s(table, place + 10), _uint32s(table, place + 13), table[place + 16],
                table[place + 17], inputs, scores,
            )  # fmt: skip
            place += 18
        else:
            quickscorer.predict(
                columns, thresholds, sets, _int32s(table, place + 10), _uint64_rows(table, place + 13),
                _uint64_rows(table, place + 16), _int32s(table, place + 19), table[place + 22],
                _int32s(table, place + 23), _int32s(table, place + 26), _float64s(table, place + 29), inputs, scores,
            )  # fmt: skip
            place += 32
