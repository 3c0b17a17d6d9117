"""One row through a whole pipeline in one compiled call.

A pipeline has some forty arrays, and to hand them over took nearly as long as what was computed of one row. Here they
are in one table of addresses (`kernels.addresses`). `CpuBackend.evaluate` is the plain version, and gives the same
bits.
"""

# An intrinsic is called without the typing context that it is declared with.
# pyright: reportCallIssue=false

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from kernels.addresses import ARRAY_WORDS, AddressTable, array_at, readonly
from kernels.backend import Pipeline
from kernels.cpu import steps
from kernels.forest.evaluators import few
from kernels.forest.evaluators.few import RowKernelCall
from kernels.forest.forest import Forest

WIDTH, DISTANCE, FORESTS, POINTS, PROGRAM = range(5)
"""Words of the table: features of the plan, 0 without one; which of them is the distance, or -1; how many forests;
points of the plan; and from here on the plan's arrays, and each forest's kernel and arguments."""

PROGRAM_ARRAYS = 8


class SingleRow:
    """A pipeline, made ready for rows that come alone. Safe to use from several threads at once.

    Make it with `single_row`. It goes on with the kernels that its forests use when it is made.
    """

    def __init__(self, pipeline: Pipeline, forests: list[Forest], kernels: list[RowKernelCall]) -> None:
        program, _, distance = pipeline
        self._addresses = addresses = AddressTable()  # kept, since its arrays must live
        addresses.add(0 if program is None else program.n_outputs, -1 if distance is None else distance)
        addresses.add(len(forests), 0 if program is None else len(program.points))
        addresses.add(*([0] * PROGRAM_ARRAYS * ARRAY_WORDS if program is None else program.arrays()))
        for kernel in kernels:
            few.add_kernel(addresses, kernel)
        self._table = addresses.words()
        self._shape = (len(forests) + 1, forests[0].n_outputs)
        self._converted = [(index, forest) for index, forest in enumerate(forests) if forest.converts]
        self._has_difficulty, self._has_distance = len(forests) > 1, distance is not None

    def evaluate(self, rows: NDArray[np.float64]) -> tuple[float | list[float], float | None, float | None]:
        """Evaluate float64[1, F], C-contiguous and writable; it is only read.

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


# Read-only as the arrays of a program are: other types would be other machine code.
_program_int32s = array_at(types.int32, 1, readonly=True)
_program_pairs = array_at(types.int32, 2, readonly=True)
_program_float64s = array_at(types.float64, 1, readonly=True)


# Unlike the kernels for batches it keeps the GIL: to hand it to another thread and take it back costs more than a row.
@njit(cache=True, error_model="numpy", no_cfunc_wrapper=True)
def evaluate(rows, table, out):
    """Evaluate one row.

    Args:
        rows: float64[1, F].
        table: int64, of a `SingleRow`.
        out: float64[forests + 1, K], written: each forest's raw scores, and then the distance.
    """
    features = np.empty((1, table[WIDTH]))
    inputs = rows
    if table[WIDTH]:
        places = np.empty((1, table[POINTS]))
        steps.transform(
            readonly(rows),
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
        inputs = features
        if table[DISTANCE] >= 0:
            out[table[FORESTS], 0] = features[0, table[DISTANCE]]
    place = PROGRAM + PROGRAM_ARRAYS * ARRAY_WORDS
    for forest in range(table[FORESTS]):
        place = few.predict(table, place, inputs, out[forest : forest + 1])
