"""A feature plan packed into arrays, which is what the kernels interpret.

Machine code depends on the arrays' types only, never on a plan: another plan is other data, and compiles nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.steps import StepBase


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """S steps over a row of slots. The first `n_inputs` slots are the raw features; step s writes slot `n_inputs + s`.

    All arrays are C-contiguous and read-only.

    Attributes:
        opcodes: int32[S], what each step does (`kernels.opcodes`).
        operands: int32[S, 2], the slots it reads; a step of one operand names it twice.
        offsets: int32[S], where its constants start in the pool.
        lengths: int32[S], how many it has.
        constants: float64[C], the pool. A step may own any stretch of it, up to 2**31 - 1 values in all: a later step
            that searches a bank of reference rows lays the bank out here (a header of sizes first, then the rows) and
            needs no new array in any kernel's signature.
        outputs: int32[O], the slots that make the model's features, in order.
        n_inputs: F, the number of raw features.
        n_slots: F + S.
    """

    opcodes: NDArray[np.int32]
    operands: NDArray[np.int32]
    offsets: NDArray[np.int32]
    lengths: NDArray[np.int32]
    constants: NDArray[np.float64]
    outputs: NDArray[np.int32]
    n_inputs: int
    n_slots: int

    @property
    def n_outputs(self) -> int:
        """O, the number of model features."""
        return len(self.outputs)

    def arrays(self) -> tuple[NDArray, ...]:
        """The arrays in the order in which every kernel takes them."""
        return self.opcodes, self.operands, self.offsets, self.lengths, self.constants, self.outputs

    def __eq__(self, other: object) -> bool:
        """Same inputs and bit for bit the same arrays."""
        return isinstance(other, Program) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        return (self.n_inputs, self.n_slots, *(array.tobytes() for array in self.arrays()))


def pack(inputs: Sequence[str], steps: Sequence[StepBase], outputs: Sequence[str]) -> Program:
    """Lay out valid steps as a Program: `Plan.program` calls this once the names are known to be sound."""
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
    return Program(
        opcodes=_frozen([step.opcode for step in steps], np.int32),
        operands=_frozen(operands, np.int32, (len(steps), 2)),
        offsets=_frozen(offsets, np.int32),
        lengths=_frozen(lengths, np.int32),
        constants=_frozen(pool, np.float64),
        outputs=_frozen([slots[name] for name in outputs], np.int32),
        n_inputs=len(inputs),
        n_slots=len(slots),
    )


def _frozen(values: Sequence, dtype: type, shape: tuple[int, ...] = (-1,)) -> NDArray:
    array = np.array(values, dtype=dtype).reshape(shape)
    array.flags.writeable = False
    return array
