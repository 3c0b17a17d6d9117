"""How a forest is evaluated."""

from typing import Literal

import msgspec

RowKernel = Literal["quickscorer", "traversal"]
Kernel = Literal["quickscorer", "traversal", "sliced"]


class ForestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a forest is evaluated, for people.

    Attributes:
        evaluator: The kernels, or LightGBM's own `predict` where the kernels do not know the kind of model.
        reason: Why not the kernels.
        few_rows: The kernel that takes few rows; None where none is left to such, or LightGBM predicts.
        many_rows: From this many rows on, the bit-sliced kernel takes them; None for never.
    """

    evaluator: Literal["kernels", "lightgbm"]
    reason: str | None = None
    few_rows: RowKernel | None = None
    many_rows: int | None = None
