"""The stored rows of a feature plan and the steps over them (reference steps), as data.

A plan with such steps comes with a table, float64[N, C], of the rows that the model was fitted on. Its columns are
those that rows are compared with (named as the plan's inputs or steps' outputs), the target, and fitted weights. The
steps are in `kernels.plan.neighbours` and `kernels.plan.gaussian_process`.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.plan.field_checks import PlanError, as_tuple, check_name
from kernels.plan.gaussian_process import GaussianProcess
from kernels.plan.neighbours import Neighbours

MAX_ROWS = 50_000
MAX_COLUMNS = 1_000
MAX_STEPS = 32
"""Most steps: each has its own index of the stored rows, which takes time to build."""

AnyReferenceStep = Neighbours | GaussianProcess


class References(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The stored table and the steps over it. The values are in a file of their own (`references.npy`).

    Attributes:
        rows: N, at most 50,000.
        columns: The table's C columns, in order, at most 1,000.
        steps: At most 32. Each may read inputs and outputs of the plan's stateless steps, not of one another.

    Raises PlanError when a step reads a column that the table has not.
    """

    rows: int
    columns: tuple[str, ...]
    steps: tuple[AnyReferenceStep, ...]

    def __post_init__(self) -> None:
        for field in ("columns", "steps"):
            msgspec.structs.force_setattr(self, field, as_tuple(getattr(self, field)))
        if not 1 <= self.rows <= MAX_ROWS:
            raise PlanError(f"references: rows must be 1 to {MAX_ROWS}, got {self.rows!r}")
        for field, most in (("columns", MAX_COLUMNS), ("steps", MAX_STEPS)):
            if (count := len(getattr(self, field))) > most:
                raise PlanError(f"references: {field} are {count}, and at most {most} are read")
        for index, name in enumerate(self.columns):
            check_name("references", f"columns[{index}]", name)
            if name in self.columns[:index]:
                raise PlanError(f"references: column {name!r} is named twice")
        if not self.steps:
            raise PlanError("references: steps is empty")
        for step in self.steps:
            if (field := step.unfitted()) is not None:
                raise PlanError(f"{step.title}: {field} is empty: the step has not been fitted")
            for name in step.table_names():
                if name not in self.columns:
                    raise PlanError(f"{step.title}: the table has no column {name!r}")
            if isinstance(step, Neighbours) and step.searched > self.rows:
                raise PlanError(f"{step.title}: {step.searched} neighbours of {self.rows} rows cannot be found")

    def check_table(self, table: NDArray[np.float64]) -> None:
        """Raise PlanError unless the table is finite float64[rows, columns]."""
        shape = (self.rows, len(self.columns))
        if table.dtype != np.float64 or table.shape != shape:
            raise PlanError(f"references: the table must be float64{list(shape)}, got {table.dtype}{list(table.shape)}")
        if not np.isfinite(table).all():
            row, column = np.argwhere(~np.isfinite(table))[0]
            raise PlanError(f"references: row {row}, column {self.columns[column]!r} of the table is not finite")


def reference_names(steps: Sequence[AnyReferenceStep]) -> tuple[str, ...]:
    """Operands of all steps, each once, in order of first use."""
    return tuple(dict.fromkeys(name for step in steps for name in step.operand_names()))
