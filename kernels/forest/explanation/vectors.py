"""A step of a tree's polynomials for one row or eight, as intrinsics of numba.

Numba makes no vectors of loops over two arrays that might overlap. Here a polynomial at four points is one vector,
which every target of LLVM has. Rows stand side by side: a word has a byte for each, and an array of words of uint64 is
one of eight rows, one of uint8 of one row.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 4
"""Numbers in a vector."""
VECTOR_BYTES = 8 * LANES

ROWS = 8
"""Rows of a word of uint64."""

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_I64 = ir.IntType(64)


@intrinsic
def grow(typing_context, paths, source, target, table, node, states, place):  # noqa: D417
    """Multiply the polynomials of paths to a node by its factors, and write those of the paths to its children.

    Args:
        paths: float64[edges, rows, 4].
        source: uint64, the edge to the node.
        target: uint64, the edge to the right; the one to the left follows.
        table: float64, a tree's.
        node: uint64, where the node's part of it starts.
        states: Words, of which bytes are states of the node.
        place: uint64, the node's word.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        paths, source, target, table, node, states, place = arguments
        paths, table, states = (_data(context, builder, signature, index, arguments) for index in (0, 3, 5))
        rows = signature.args[5].dtype.bitwidth // 8
        for row, part in enumerate(_parts(builder, states, place, rows, node, 4)):
            path = _load(builder, paths, _place(builder, source, rows, row))
            for side in range(2):
                grown = builder.fmul(path, _load(builder, table, _after(builder, part, side)))
                _store(builder, grown, paths, _place(builder, target, rows, side * rows + row))
        return context.get_dummy_value()

    return types.void(paths, source, target, table, node, states, place), generate


@intrinsic
def collect(typing_context, paths, source, target, table, node, states, place, totals, total):  # noqa: D417
    """Add the sums below a node's children up, and their weighted sum to its feature's total.

    Args:
        paths: float64[edges, rows, 4].
        source: uint64, the edge to the right; the one to the left follows.
        target: uint64, the edge to the node, where the sum is written.
        table: float64, a tree's.
        node: uint64, where the node's part of it starts.
        states: Words, of which bytes are states of the node.
        place: uint64, the node's word.
        totals: float64.
        total: uint64, where those of the node's feature start in it: float64[rows, 4].
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        paths, source, target, table, node, states, place, totals, total = arguments
        paths, table, states, totals = (_data(context, builder, signature, index, arguments) for index in (0, 3, 5, 7))
        rows = signature.args[5].dtype.bitwidth // 8
        for row, part in enumerate(_parts(builder, states, place, rows, node, 4)):
            right, left = (_load(builder, paths, _place(builder, source, rows, side * rows + row)) for side in range(2))
            _store(builder, builder.fadd(right, left), paths, _place(builder, target, rows, row))
            from_right, from_left = (
                builder.fmul(below, _load(builder, table, _after(builder, part, 2 + side)))
                for side, below in enumerate((right, left))
            )
            _add(builder, builder.fadd(from_right, from_left), totals, _after(builder, total, row))
        return context.get_dummy_value()

    return types.void(paths, source, target, table, node, states, place, totals, total), generate


@intrinsic
def finish(typing_context, paths, edge, table, node, states, place, totals, total):  # noqa: D417
    """Put in place of the polynomials of paths to a node the sums below, and add them weighted to its feature's total.

    Args:
        paths: float64[edges, rows, 4].
        edge: uint64, the edge to the node, whose children are both leaves.
        table: float64, a tree's.
        node: uint64, where the node's part of it starts.
        states: Words, of which bytes are states of the node.
        place: uint64, the node's word.
        totals: float64.
        total: uint64, where those of the node's feature start in it: float64[rows, 4].
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        paths, edge, table, node, states, place, totals, total = arguments
        paths, table, states, totals = (_data(context, builder, signature, index, arguments) for index in (0, 2, 4, 6))
        rows = signature.args[4].dtype.bitwidth // 8
        for row, part in enumerate(_parts(builder, states, place, rows, node, 2)):
            at = _place(builder, edge, rows, row)
            path = _load(builder, paths, at)
            _store(builder, builder.fmul(path, _load(builder, table, part)), paths, at)
            weighted = builder.fmul(path, _load(builder, table, _after(builder, part, 1)))
            _add(builder, weighted, totals, _after(builder, total, row))
        return context.get_dummy_value()

    return types.void(paths, edge, table, node, states, place, totals, total), generate


@intrinsic
def prefetch(typing_context, table, place, lines):  # noqa: D417
    """Have a part of a table fetched before it is needed.

    Args:
        table: float64.
        place: uint64, where it starts.
        lines: uint64, cache lines of it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table, place, lines = arguments
        table = _data(context, builder, signature, 0, arguments)
        address, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        with cgutils.for_range(builder, lines, intp=_I64) as loop:
            at = builder.gep(table, [builder.add(place, builder.mul(loop.index, ir.Constant(_I64, 8)))])
            # To read, into all caches, of data.
            builder.call(fetch, [builder.bitcast(at, address), *(ir.Constant(number, how) for how in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(table, place, lines), generate


def _parts(builder: Any, states: Any, place: Any, rows: int, start: Any, vectors: int) -> list[Any]:
    """For each row the place in a table of its state's part, of which each has so many vectors."""
    word = builder.load(builder.gep(states, [place]))
    word = builder.zext(word, _I64) if rows == 1 else word
    mask = ir.Constant(_I64, 255)
    state = [builder.and_(builder.lshr(word, ir.Constant(_I64, 8 * row)), mask) for row in range(rows)]
    return [builder.add(start, builder.mul(one, ir.Constant(_I64, vectors * LANES))) for one in state]


def _place(builder: Any, edge: Any, rows: int, row: int) -> Any:
    """The place of a row's polynomial of an edge."""
    return _after(builder, builder.mul(edge, ir.Constant(_I64, rows * LANES)), row)


def _after(builder: Any, place: Any, vectors: int) -> Any:
    return builder.add(place, ir.Constant(_I64, vectors * LANES))


def _add(builder: Any, value: Any, data: Any, place: Any) -> None:
    _store(builder, builder.fadd(_load(builder, data, place), value), data, place)


def _data(context: Any, builder: Any, signature: Any, place: int, arguments: Any) -> Any:
    return context.make_array(signature.args[place])(context, builder, value=arguments[place]).data


def _vector(builder: Any, data: Any, place: Any) -> Any:
    return builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer())


def _load(builder: Any, data: Any, place: Any) -> Any:
    return builder.load(_vector(builder, data, place), align=8)


def _store(builder: Any, value: Any, data: Any, place: Any) -> None:
    builder.store(value, _vector(builder, data, place), align=8)
