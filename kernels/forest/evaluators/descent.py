"""Down several trees at once, as an intrinsic of numba.

A step is eight instructions and no branch. By numba's own arrays and integers it is twice as many, and as many lines of
source as there are lanes.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
"""Trees at a time: with their places to write to, as many positions as there are registers."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def descend(typing_context, words, starts, keys, leaf, found, stride):  # noqa: D417
    """Walk all trees with one row.

    until all lanes have ended: in each lane: note the node's word; go on to a child, or from a leaf to the next tree

    Args:
        words: uint64, the trees as `kernels.forest.evaluators.traversal.Lanes` has them.
        starts: uint32[LANES], each lane's first node.
        keys: uint64, what a node's word is compared with, by place.
        leaf: uint32, the place that leaves have, the greatest of all.
        found: float64, written: from each multiple of `stride` on the leaf values of a lane's trees, and one word more.
        stride: int64, greater than the trees of a lane.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words, starts, keys, found = (
            context.make_array(signature.args[index])(context, builder, value=arguments[index]).data
            for index in (0, 1, 2, 4)
        )
        found = builder.bitcast(found, _I64.as_pointer())
        leaf, stride = arguments[3], arguments[5]
        nodes = [
            builder.zext(builder.load(builder.gep(starts, [ir.Constant(_I64, lane)])), _I64) for lane in range(LANES)
        ]
        slots = [builder.mul(stride, ir.Constant(_I64, lane)) for lane in range(LANES)]
        before, step, after = builder.block, *(builder.append_basic_block(name) for name in ("step", "after"))
        builder.branch(step)
        builder.position_at_end(step)
        states = [builder.phi(_I64) for _ in range(2 * LANES)]
        nexts: list[Any] = []
        for node in states[:LANES]:
            link = builder.bitcast(builder.gep(words, [builder.add(node, ir.Constant(_I64, 2))]), _I32.as_pointer())
            place = builder.load(link)
            child = builder.zext(builder.load(builder.gep(link, [ir.Constant(_I64, 1)])), _I64)
            word = builder.load(builder.gep(words, [node]))
            slot = states[LANES + len(nexts)]
            builder.store(word, builder.gep(found, [slot]))
            left = builder.icmp_unsigned("<", builder.load(builder.gep(keys, [builder.zext(place, _I64)])), word)
            nexts.append(builder.add(child, builder.zext(left, _I64)))
            # "At least" and not "equal": the carry of one comparison, as `left` is, which an addition takes up.
            done = builder.icmp_unsigned(">=", place, leaf)
            slots.append(builder.add(slot, builder.zext(done, _I64)))
        for state, first, later in zip(states, nodes + slots[:LANES], nexts + slots[LANES:], strict=True):
            state.add_incoming(first, before)
            state.add_incoming(later, step)
        going = nexts[0]
        for node in nexts[1:]:
            going = builder.or_(going, node)
        builder.cbranch(builder.icmp_unsigned("!=", going, ir.Constant(_I64, 0)), step, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(words, starts, keys, types.uint32, found, types.int64), generate
