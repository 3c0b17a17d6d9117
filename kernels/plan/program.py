"""A feature plan packed into arrays, which the kernels interpret.

Machine code depends on the arrays' types only, never on a plan: another plan is other data, and compiles nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.plan.gaussian_process import ExpansionArrays, pack_expansion
from kernels.plan.neighbours import NeighbourArrays, Neighbours, pack_neighbours
from kernels.plan.operations import OPCODES
from kernels.plan.references import AnyReferenceStep, reference_names
from kernels.plan.steps import StepBase


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """S steps over a row of slots. The first `n_inputs` slots are the raw features; step s writes slot `n_inputs + s`.

    All arrays are C-contiguous and read-only.

    Attributes:
        opcodes: int32[S], number of each step's operation (`kernels.plan.operations`).
        operands: int32[S, 2], the slots it reads; a step of one operand names it twice.
        offsets: int32[S], where its constants start in the pool.
        lengths: int32[S], how many it has.
        constants: float64[C], the pool. A step may own any stretch of it, up to 2**31 - 1 values in all.
        outputs: int32, the slots that are model features.
        columns: int32, where each of them goes among the features.
        points: int32[P], the slots that reference steps read.
        references: The packed reference steps.
        n_inputs: F, the number of raw features.
        n_slots: F + S.
        n_outputs: O, the number of model features.
    """

    opcodes: NDArray[np.int32]
    operands: NDArray[np.int32]
    offsets: NDArray[np.int32]
    lengths: NDArray[np.int32]
    constants: NDArray[np.float64]
    outputs: NDArray[np.int32]
    columns: NDArray[np.int32]
    points: NDArray[np.int32]
    references: tuple[NeighbourArrays | ExpansionArrays, ...]
    n_inputs: int
    n_slots: int
    n_outputs: int

    def arrays(self) -> tuple[NDArray, ...]:
        """The arrays of the stateless steps, in the order in which every kernel takes them."""
        return (
            self.opcodes, self.operands, self.offsets, self.lengths, self.constants, self.outputs, self.columns,
            self.points,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        """Same inputs and bit for bit the same arrays."""
        return isinstance(other, Program) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        arrays = (*self.arrays(), *(array for step in self.references for array in step))
        return (self.n_inputs, self.n_slots, self.n_outputs, *(array.tobytes() for array in arrays))


def pack(
    inputs: Sequence[str],
    steps: Sequence[StepBase],
    outputs: Sequence[str],
    references: Sequence[AnyReferenceStep] = (),
    table: Mapping[str, NDArray[np.float64]] | None = None,
    points: Sequence[str] = (),
) -> Program:
    """Lay out valid steps as a Program: `Plan.program` calls this once the names are known to be sound.

    Args:
        inputs: Names of the raw features.
        steps: The stateless steps.
        outputs: Names of the model's features.
        references: The reference steps.
        table: Their table's columns, float64[N], by name.
        points: Names of further points, besides those that the reference steps read.
    """
    slots = {name: slot for slot, name in enumerate(inputs)}
    operands: list[tuple[int, int]] = []
    offsets: list[int] = []
    lengths: list[int] = []
    pool: list[float] = []
    for step in steps:
        read = [slots[name] for name in step.operand_names()]
        operands.append((read[0], read[-1]))
        constants = step.constants()
        offsets.append(len(pool))
        lengths.append(len(constants))
        pool.extend(constants)
        slots[step.output] = len(slots)
    features = {name: column for column, name in enumerate(outputs)}
    points = tuple(dict.fromkeys((*reference_names(references), *points)))
    places = {name: place for place, name in enumerate(points)}
    packed: list[NeighbourArrays | ExpansionArrays] = []
    for step in references:
        if isinstance(step, Neighbours):
            packed.append(pack_neighbours(step, dict(table or {}), places, features))
        else:
            packed.append(pack_expansion(step, dict(table or {}), places, features))
    stateless = [name for name in outputs if name in slots]
    return Program(
        opcodes=_frozen([OPCODES[type(step)] for step in steps], np.int32),
        operands=_frozen(operands, np.int32, (len(steps), 2)),
        offsets=_frozen(offsets, np.int32),
        lengths=_frozen(lengths, np.int32),
        constants=_frozen(pool, np.float64),
        outputs=_frozen([slots[name] for name in stateless], np.int32),
        columns=_frozen([features[name] for name in stateless], np.int32),
        points=_frozen([slots[name] for name in points], np.int32),
        references=tuple(packed),
        n_inputs=len(inputs),
        n_slots=len(slots),
        n_outputs=len(outputs),
    )


def _frozen(values: Sequence, dtype: type, shape: tuple[int, ...] = (-1,)) -> NDArray:
    array = np.array(values, dtype=dtype).reshape(shape)
    array.flags.writeable = False
    return array
