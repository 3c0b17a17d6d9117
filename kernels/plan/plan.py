"""The feature plan, stored beside a model as plan.json: the transformation of raw features into the model's features.

A plan is data. It is checked as a whole when it is read, so that no plan that loads can fail on a row. Training and
serving read the same file and run the same kernels.
"""

from typing import Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernels.plan.field_checks import PlanError, as_tuple, check_finite, check_name
from kernels.plan.gaussian_process import Factor, GaussianProcess, Term
from kernels.plan.neighbours import Neighbours, Regression
from kernels.plan.program import Program, pack
from kernels.plan.references import AnyReferenceStep, References
from kernels.plan.steps import (
    Clip,
    Log,
    PointDistance,
    PolylineDistance,
    Product,
    Ratio,
    Rotation,
    Standardise,
    Step,
    StepBase,
)

__all__ = [
    "Clip",
    "Factor",
    "GaussianProcess",
    "Input",
    "Log",
    "Neighbours",
    "Plan",
    "PlanError",
    "PointDistance",
    "PolylineDistance",
    "Product",
    "Program",
    "Ratio",
    "References",
    "Regression",
    "Rotation",
    "Standardise",
    "Step",
    "Term",
]


MAX_COLUMNS = 100_000
"""Most inputs, most stateless steps and most outputs of a plan."""


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One raw feature.

    Attributes:
        name: the column, as requests and the model's signature name it.
        description: Text for people.
        unit: Unit of measurement, for people.
        physical_range: (lowest, highest) value that can be, in `unit`; None where nothing bounds it.
        training_range: (lowest, highest) value in the training rows.

    Raises PlanError for a blank name or a range that is not finite and ascending.
    """

    name: str
    description: str = ""
    unit: str = ""
    physical_range: tuple[float, float] | None = None
    training_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_name("input", "name", self.name)
        for field in ("physical_range", "training_range"):
            bounds = getattr(self, field)
            if bounds is None:
                continue
            bounds = as_tuple(bounds)
            owner = f"input {self.name!r}"
            if len(bounds) != 2:
                raise PlanError(f"{owner}: {field} must be (lowest, highest), got {bounds!r}")
            bounds = tuple(check_finite(owner, field, value) for value in bounds)
            msgspec.structs.force_setattr(self, field, bounds)
            if bounds[0] > bounds[1]:
                raise PlanError(f"{owner}: {field} is reversed: {bounds[0]} is above {bounds[1]}")


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Raw features, the steps over them, and the columns that the model takes.

    Attributes:
        version: of this format.
        inputs: the F raw features, in column order.
        steps: run in order; each may read inputs and the outputs of earlier steps.
        references: the stored rows' columns and the steps over them, run after `steps`; their values come separately.
        outputs: the O model features, in the model's order: inputs (passed through) or outputs of steps.

    Raises PlanError when names are missing, doubled, or read before they are defined.
    """

    version: Literal[1] = 1
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...] = ()
    references: References | None = None
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in ("inputs", "steps", "outputs"):
            msgspec.structs.force_setattr(self, field, as_tuple(getattr(self, field)))
            if (count := len(getattr(self, field))) > MAX_COLUMNS:
                raise PlanError(f"plan: {field} are {count}, and at most {MAX_COLUMNS} are read")
        if self.version != 1:
            raise PlanError(f"plan: version {self.version!r} is not supported, only 1 is")
        self._check_names()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The raw features' names, in column order."""
        return tuple(column.name for column in self.inputs)

    @classmethod
    def from_json(cls, text: bytes) -> "Plan":
        """Read a plan. Raises PlanError for text that is not JSON, does not fit the schema, or is not valid."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PlanError(f"plan: {_with_output(text, str(error))}") from error

    def to_json(self) -> bytes:
        """The plan as indented UTF-8 JSON: equal plans give equal bytes, and `from_json` gives the plan back."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    @property
    def reference_steps(self) -> tuple[AnyReferenceStep, ...]:
        """The steps over stored rows; none where there are no such rows."""
        return () if self.references is None else self.references.steps

    def program(self, table: NDArray[np.float64] | None = None) -> Program:
        """The plan packed for the kernels. Equal plans and tables give equal programs.

        Args:
            table: float64[N, C], the stored rows; given exactly when the plan has `references`.

        Raises PlanError when the table is missing or not as the plan says.
        """
        steps = cast("tuple[StepBase, ...]", self.steps)
        if (table is None) != (self.references is None):
            raise PlanError(f"plan: references {'need a' if table is None else 'are absent, and there is a'} table")
        if self.references is None or table is None:
            return pack(self.input_names, steps, self.outputs)
        self.references.check_table(table)
        columns = {name: table[:, index] for index, name in enumerate(self.references.columns)}
        return pack(self.input_names, steps, self.outputs, self.references.steps, columns)

    def _check_names(self) -> None:
        if not self.inputs:
            raise PlanError("plan: inputs is empty")
        if not self.outputs:
            raise PlanError("plan: outputs is empty")
        known: set[str] = set()
        for name in self.input_names:
            if name in known:
                raise PlanError(f"input {name!r}: name is used twice")
            known.add(name)
        defined = known | {step.output for step in self.steps}
        for step in self.steps:
            for field, name in zip(step.operands, step.operand_names(), strict=True):
                if name not in known:
                    why = "is defined later" if name in defined else "is unknown"
                    if name == step.output:
                        why = "is the step's own output"
                    raise PlanError(f"{step.title}: {field} {name!r} {why}")
            if step.output in known:
                raise PlanError(
                    f"{step.title}: output {step.output!r} is already the name of an input or an earlier step"
                )
            known.add(step.output)
        computed = frozenset(known)
        for step in self.reference_steps:
            for name in step.operand_names():
                if name not in computed:
                    raise PlanError(f"{step.title}: {name!r} is neither an input nor the output of a stateless step")
            for name in step.outputs:
                if name in known:
                    raise PlanError(f"{step.title}: {name!r} is already the name of an input or an earlier output")
                known.add(name)
        limits = [
            step for step in self.reference_steps if isinstance(step, Neighbours) and step.outside_distance is not None
        ]
        for step in limits:
            if step.nearest not in self.outputs:
                raise PlanError(f"{step.title}: outside_distance is tested on {step.nearest!r}, which is not an output")
            if step is not limits[0]:
                raise PlanError(f"{step.title}: only one step can have an outside_distance, {limits[0].output!r} has")
        named: set[str] = set()
        for index, name in enumerate(self.outputs):
            if name not in known:
                raise PlanError(f"plan: outputs[{index}] {name!r} is unknown")
            if name in named:
                raise PlanError(f"plan: outputs[{index}] {name!r} is named twice")
            named.add(name)


def _with_output(text: bytes, message: str) -> str:
    """A decoder's message with the step's own name before it, where the message only gives its place ($.steps[3])."""
    _, found, rest = message.partition("$.steps[")
    if not found or message.startswith("step "):
        return message
    try:
        step = msgspec.json.decode(text)["steps"][int(rest.partition("]")[0])]
        return f"step {step['output']!r} ({step.get('op')}): {message}"
    except (ValueError, LookupError, TypeError, AttributeError):
        return message
