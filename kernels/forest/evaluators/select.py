"""One of two values, chosen without a branch."""

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def select(typing_context, condition, yes, no):
    """`yes if condition else no`, for a condition that no processor can predict.

    LLVM makes a branch of a conditional move in a loop where it takes a branch for the cheaper one. It does so by its
    model of the processor: a search among thresholds is branchless on an AMD Zen, and took five times as long as that
    by the models of Intel's processors since Haswell. What it is told to be unpredictable it leaves as it is.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen = builder.select(*arguments)
        chosen.set_metadata("unpredictable", builder.module.add_metadata([]))
        return chosen

    return (yes(condition, yes, no), generate) if condition == types.boolean and yes == no else None
