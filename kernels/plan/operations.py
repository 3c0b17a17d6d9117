"""All kinds of stateless steps in one table, and the functions that compute a step of any kind.

A line of `OPERATIONS` names a kind of step and its row-level function. The source of the three functions at the end is
generated from the table. `evaluate` computes one step on one row, and is what a GPU's threads call. On the CPU,
`evaluate_block` computes one step on many rows, and `evaluate_run` many steps of one kind on one row. There the branch
on the kind is outside the loop, so that the loop is arithmetic alone and is vectorised (except the logarithm's, which
calls libm).
"""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from numba import njit

from kernels.plan import features, polyline
from kernels.plan.steps import (
    Clip,
    Log,
    PointDistance,
    PolylineDistance,
    Product,
    Ratio,
    Rotation,
    Standardise,
    StepBase,
)


class Operation(NamedTuple):
    """How one kind of step is computed. All functions are compiled ones.

    Attributes:
        step: The step as data.
        row: The step's operands and then its constants, float64 each, to float64. If the number of constants varies:
            (a, b, constants, offset, length) to float64, and the other two functions are needed.
        block: (a, b, constants, scratch, result), as `evaluate_block`; None for a loop over `row`.
        run: (a, b, constants, scratch, results), as `evaluate_run` for a run of one step; None for a loop over `row`.
    """

    step: type[StepBase]
    row: Any
    block: Any = None
    run: Any = None


OPERATIONS = (
    Operation(Ratio, features.ratio),
    Operation(Product, features.product),
    Operation(Log, features.log),
    Operation(Clip, features.clip),
    Operation(Standardise, features.standardise),
    Operation(Rotation, features.rotation),
    Operation(PointDistance, features.point_distance),
    Operation(
        PolylineDistance,
        polyline.polyline_distance,
        polyline.polyline_distances_of_rows,
        polyline.polyline_distance_of_row,
    ),
)

OPCODES = {operation.step: opcode for opcode, operation in enumerate(OPERATIONS)}
"""The numbers by which a packed program names its operations: no program is stored, so another release may have others.
"""

ALONE = tuple(opcode for opcode, operation in enumerate(OPERATIONS) if operation.run is not None)
"""Operations of which a run is always one step."""


def n_constants(operation: Operation) -> int:
    """How many constants each step of an operation has, where the number does not vary."""
    return len(inspect.signature(operation.row.py_func).parameters) - len(operation.step.operands)


def _call(operation: Operation, operands: Sequence[str], constants: Iterable[str]) -> str:
    given = ", ".join([*operands[: len(operation.step.operands)], *constants])
    return f"{operation.row.__name__}({given})"


def _of_row(operation: Operation) -> list[str]:
    if operation.run is not None:
        return [f"return {operation.row.__name__}(a, b, constants, offset, length)"]
    own = [f"constants[offset + {index}]" for index in range(n_constants(operation))]
    return [f"return {_call(operation, ('a', 'b'), own)}"]


def _of_block(operation: Operation) -> list[str]:
    if operation.block is not None:
        return [f"{operation.block.__name__}(a, b, constants, scratch, result)"]
    own = [f"constant_{index}" for index in range(n_constants(operation))]
    return [
        # Scalars, since a load from an array may not be moved out of a loop that stores.
        *(f"{name} = constants[{index}]" for index, name in enumerate(own)),
        "for row in range(len(result)):",
        f"    result[row] = {_call(operation, ('a[row]', 'b[row]'), own)}",
    ]


def _of_run(operation: Operation) -> list[str]:
    if operation.run is not None:
        return [f"{operation.run.__name__}(a, b, constants, scratch, results)"]
    count = n_constants(operation)
    own = [f"constants[{count} * step + {index}]" for index in range(count)]
    return ["for step in range(len(results)):", f"    results[step] = {_call(operation, ('a', 'b'), own)}"]


def _dispatcher(head: str, bodies: Iterable[list[str]], otherwise: str, document: str) -> Any:
    """A function that branches on `op`, the number of a body.

    It is written out as source, since numba compiles source: the same of closures took twice as long to compile, and
    loops that call one of several functions are not vectorised.
    """
    lines = [f"def {head}:"]
    for opcode, body in enumerate(bodies):
        lines += [f"    if op == {opcode}:" if opcode == 0 else f"    elif op == {opcode}:"]
        lines += [f"        {line}" for line in body]
    lines += ["    else:", f"        {otherwise}"]
    functions = (function for operation in OPERATIONS for function in operation[1:] if function is not None)
    names: dict[str, Any] = {"nan": float("nan"), **{function.__name__: function for function in functions}}
    exec(compile("\n".join(lines), f"<{__name__}>", "exec"), names)
    function = names[head.partition("(")[0]]
    function.__doc__ = document
    return function


evaluate: Any = njit(error_model="numpy")(
    _dispatcher(
        "evaluate(op, a, b, constants, offset, length)",
        map(_of_row, OPERATIONS),
        "return nan",
        """One step on one row.

        Args:
            op: int32, which operation; an unknown one gives NaN.
            a: float64, the first operand.
            b: float64, the second; whatever it is, a step of one operand does not read it.
            constants: float64[C], the program's pool.
            offset: int32, where the step's constants start.
            length: int32, how many it has.

        Returns float64.
        """,
    )
)

evaluate_block: Any = njit(error_model="numpy", inline="always")(
    _dispatcher(
        "evaluate_block(op, a, b, constants, scratch, result)",
        map(_of_block, OPERATIONS),
        "result[:] = nan",
        """One step on each row of a block: bit for bit what `evaluate` gives.

        Args:
            op: int32, which operation; an unknown one gives NaN.
            a: float64[B], the first operand.
            b: float64[B], the second.
            constants: float64, the step's own.
            scratch: float64[B], to work in.
            result: float64[B], written.
        """,
    )
)

evaluate_run: Any = njit(error_model="numpy", inline="always")(
    _dispatcher(
        "evaluate_run(op, a, b, constants, scratch, results)",
        map(_of_run, OPERATIONS),
        "results[:] = nan",
        """A run of steps on one row: bit for bit what `evaluate` gives.

        Args:
            op: int32, which operation; an unknown one gives NaN.
            a: float64, the first operand.
            b: float64, the second.
            constants: float64, the steps' own, one step's after the other's.
            scratch: float64, to work in: at least as long as the constants.
            results: float64[S], written.
        """,
    )
)
