"""Steps that are computed together for one row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.cpu.steps import run_length
from kernels.plan.operations import ALONE, OPCODES
from kernels.plan.steps import Clip, PolylineDistance, Rotation

KINDS = tuple(OPCODES[step] for step in (Rotation, Clip, PolylineDistance))


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(KINDS), st.tuples(st.integers(0, 1), st.integers(0, 1)), st.integers(1, 2)),
        min_size=1,
        max_size=9,
    ),
    apart=st.sets(st.integers(0, 8)),
)
def test_a_run_is_equal_steps_with_constants_side_by_side(
    steps: list[tuple[int, tuple[int, int], int]], apart: set[int]
) -> None:
    opcode, operands, lengths = zip(*steps, strict=True)
    gaps = [index in apart for index in range(len(steps))]
    offsets = np.cumsum([0, *lengths[:-1]]) + np.cumsum(gaps)
    packed = [np.array(values, dtype=np.int32) for values in (opcode, operands, offsets, lengths)]
    for step, kind in enumerate(steps):
        same = [other == kind and other[0] not in ALONE for other in steps[step + 1 :]]
        joined = [alike and not gap for alike, gap in zip(same, gaps[step + 1 :], strict=True)]
        expected = 1 + next((index for index, is_joined in enumerate(joined) if not is_joined), len(joined))
        assert run_length(step, *packed) == expected
