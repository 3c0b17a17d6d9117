"""The kernels that evaluate a forest."""

from typing import Literal

import msgspec

RowKernel = Literal["quickscorer", "traversal"]
Kernel = Literal["quickscorer", "traversal", "sliced"]


class ForestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluation of a forest, for people.

    Attributes:
        evaluator: The kernels, or LightGBM's own `predict` where the kernels do not know the kind of model.
        reason: Why LightGBM evaluates it; None where the kernels do.
        few_rows: The kernel that takes few rows; None where there is none, or LightGBM predicts.
        many_rows: From this many rows on, the bit-sliced kernel takes them; None for never.
    """

    evaluator: Literal["kernels", "lightgbm"]
    reason: str | None = None
    few_rows: RowKernel | None = None
    many_rows: int | None = None
