"""512 rows as a bitset, which is one cache line, and operations on 256 or 512 bits of it at once.

Numba has no vector types, and its loops over bytes do not become the instructions that these operations are on most
processors (compare 32 bytes and gather their sign bits, spread 32 bits over 32 bytes). So they are written in LLVM's
own vector types, which every target has; where a processor has shorter vectors, LLVM takes several.

All functions are for compiled callers only. `lines` is uint64[*, 8], C-contiguous and aligned to 64 bytes; bit r of a
line is row r's.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 512
"""Rows in a line."""

GROUP = 32
"""Rows whose bytes make one vector."""

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_LINE = ir.VectorType(_I64, 8)
_BYTES = ir.VectorType(_I8, GROUP)
_LINE_BYTES = 64


def _data(context: Any, builder: Any, array_type: Any, array: Any, element: Any = _I8) -> Any:
    """An array's first element's address."""
    return builder.bitcast(context.make_array(array_type)(context, builder, value=array).data, element.as_pointer())


def _line(builder: Any, lines: Any, index: Any) -> Any:
    """A line's address."""
    offset = builder.shl(builder.zext(index, _I64) if index.type != _I64 else index, ir.Constant(_I64, 6))
    return builder.bitcast(builder.gep(lines, [offset]), _LINE.as_pointer())


def _load(builder: Any, address: Any, align: int) -> Any:
    value = builder.load(address)
    value.align = align
    return value


def _store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, address).align = align


def _splat(builder: Any, value: Any) -> Any:
    """A vector of one byte, 32 times."""
    single = builder.insert_element(ir.Constant(_BYTES, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(
        single, ir.Constant(_BYTES, ir.Undefined), ir.Constant(ir.VectorType(_I32, GROUP), [0] * GROUP)
    )


def _compare(operator: str) -> Any:
    def typed(typing_context: Any, ranks: Any, value: Any, groups: Any, lines: Any, line: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            ranks, value, groups, lines, line = arguments
            source = _data(context, builder, signature.args[0], ranks)
            target = builder.bitcast(
                _line(builder, _data(context, builder, signature.args[3], lines), line), _I32.as_pointer()
            )
            wanted = _splat(builder, value)
            with cgutils.for_range(builder, groups) as loop:
                at = builder.bitcast(
                    builder.gep(source, [builder.mul(loop.index, ir.Constant(_I64, GROUP))]), _BYTES.as_pointer()
                )
                answer = builder.icmp_unsigned(operator, _load(builder, at, 1), wanted)
                builder.store(builder.bitcast(answer, _I32), builder.gep(target, [loop.index]))
            return context.get_dummy_value()

        return types.void(ranks, types.uint8, types.intp, lines, types.intp), generate

    return typed


@intrinsic
def up_to(typing_context, ranks, value, groups, lines, line):
    """A line of which rows have a rank of at most `value`: ranks uint8[512], of which `groups` times 32 are read."""
    return _compare("<=")(typing_context, ranks, value, groups, lines, line)


@intrinsic
def equal_to(typing_context, ranks, value, groups, lines, line):
    """A line of which rows have the rank `value`; otherwise as `up_to`."""
    return _compare("==")(typing_context, ranks, value, groups, lines, line)


@intrinsic
def split(typing_context, lines, nodes, node):  # noqa: D417
    """Send the rows at a node to its children.

    Args:
        lines: Both children's are written.
        nodes: int32[N, 4], the lines of the predicate, of the node, of its left and of its right child.
        node: Which.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines = _data(context, builder, signature.args[0], arguments[0])
        record = builder.gep(
            _data(context, builder, signature.args[1], arguments[1], _I32),
            [builder.shl(arguments[2], ir.Constant(_I64, 2))],
        )
        predicate, here, left, right = (
            _line(builder, lines, builder.load(builder.gep(record, [ir.Constant(_I64, field)]))) for field in range(4)
        )
        rows = _load(builder, here, _LINE_BYTES)
        going_left = builder.and_(rows, _load(builder, predicate, _LINE_BYTES))
        _store(builder, going_left, left, _LINE_BYTES)
        _store(builder, builder.xor(rows, going_left), right, _LINE_BYTES)
        return context.get_dummy_value()

    return types.void(lines, nodes, types.intp), generate


@intrinsic
def unite(typing_context, lines, members, first, last, line):
    """A line of the rows that are in any of the lines `members[first:last]`, int32; of none, if there are none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines = _data(context, builder, signature.args[0], arguments[0])
        members = _data(context, builder, signature.args[1], arguments[1], _I32)
        union = cgutils.alloca_once_value(builder, ir.Constant(_LINE, [0] * 8))
        with cgutils.for_range_slice(builder, arguments[2], arguments[3], ir.Constant(_I64, 1)) as (index, _):
            member = _line(builder, lines, builder.load(builder.gep(members, [index])))
            builder.store(builder.or_(builder.load(union), _load(builder, member, _LINE_BYTES)), union)
        _store(builder, builder.load(union), _line(builder, lines, arguments[4]), _LINE_BYTES)
        return context.get_dummy_value()

    return types.void(lines, members, types.intp, types.intp, types.intp), generate


@intrinsic
def add(typing_context, lines, line, member):
    """Put the rows that are in the line `member` into another line."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines = _data(context, builder, signature.args[0], arguments[0])
        target, source = (_line(builder, lines, line) for line in arguments[1:])
        both = builder.or_(_load(builder, target, _LINE_BYTES), _load(builder, source, _LINE_BYTES))
        _store(builder, both, target, _LINE_BYTES)
        return context.get_dummy_value()

    return types.void(lines, types.intp, types.intp), generate


@intrinsic
def lowest_bit(typing_context, word):
    """The place of the lowest set bit of a uint64 that is not zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(_I1, 1))

    return types.uint64(types.uint64), generate


@intrinsic
def numbers(typing_context, lines, first, planes, groups, out):  # noqa: D417
    """Turn bit planes into a uint32 for each row.

    Args:
        lines: Bit b of byte j of a row's number is in line `first + 8 * j + b`.
        first: A line.
        planes: How many bits of each byte there are; the others are zero.
        groups: How many times 32 rows.
        out: uint32[512], written.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines, first, planes, groups, out = arguments
        source = builder.bitcast(
            _line(builder, _data(context, builder, signature.args[0], lines), first), _I32.as_pointer()
        )
        target = _data(context, builder, signature.args[4], out)
        none = ir.Constant(_BYTES, [0] * GROUP)
        parts = [cgutils.alloca_once(builder, _BYTES) for _ in range(4)]
        with cgutils.for_range(builder, groups) as group:
            for part in parts:
                builder.store(none, part)
            with cgutils.for_range(builder, planes) as plane:
                bit = _splat(builder, builder.shl(ir.Constant(_I8, 1), builder.trunc(plane.index, _I8)))
                word = builder.add(group.index, builder.mul(plane.index, ir.Constant(_I64, 16)))
                for index, part in enumerate(parts):
                    at = builder.gep(source, [builder.add(word, ir.Constant(_I64, index * 8 * 16))])
                    rows = builder.bitcast(builder.load(at), ir.VectorType(_I1, GROUP))
                    builder.store(builder.or_(builder.load(part), builder.select(rows, bit, none)), part)
            low, high, upper, top = (builder.load(part) for part in parts)
            # Byte after byte of a row: first pairs of bytes, then pairs of pairs.
            pairs = ir.VectorType(ir.IntType(16), GROUP)
            lower, higher = (
                builder.bitcast(builder.shuffle_vector(left, right, _zipped(GROUP)), pairs)
                for left, right in ((low, high), (upper, top))
            )
            whole = builder.shuffle_vector(lower, higher, _zipped(GROUP))
            at = builder.gep(target, [builder.mul(group.index, ir.Constant(_I64, 4 * GROUP))])
            _store(builder, whole, builder.bitcast(at, whole.type.as_pointer()), 4)
        return context.get_dummy_value()

    return types.void(lines, types.intp, types.intp, types.intp, out), generate


def _zipped(length: int) -> Any:
    """The order that takes elements of two vectors in turn."""
    order = [side * length + index for index in range(length) for side in (0, 1)]
    return ir.Constant(ir.VectorType(_I32, 2 * length), order)
