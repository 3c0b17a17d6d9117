"""A search among thresholds has no branch, by the model that LLVM has of any processor."""

import platform
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding
from numba import njit, types

from kernels.forest import predicates
from kernels.forest.evaluators.select import select

PROCESSORS = ("haswell", "skylake-avx512", "sapphirerapids", "znver4")
"""LLVM takes a branch for cheaper than a conditional move on some of them."""

BRANCH = re.compile(
    r"ucomisd\s+\S*\(%\w+,%\w+,8\), %xmm\d+\n(?:\s+(?:mov|lea)[^\n]*\n)*\s+j(?:ae?|be?)\s",
)
"""A jump by a comparison with an element of an array of float64, and perhaps moves before it."""

_DOUBLES, _INTS = types.float64[::1], types.int32[::1]
SEARCHES = {
    "rank": (types.float64, _DOUBLES, _INTS),
    "rank_block": (types.float64[:, ::1], types.int64, types.int64, _DOUBLES, _INTS, _DOUBLES, _INTS),
}


@njit
def chosen(condition, yes, no):
    return select(condition, yes, no)


@given(condition=st.booleans(), yes=st.integers(0, 2**63 - 1), no=st.integers(0, 2**63 - 1))
def test_one_of_two_values_is_chosen(condition: bool, yes: int, no: int) -> None:
    assert chosen(condition, yes, no) == (yes if condition else no)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86's instructions")
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_has_no_branch_on_any_processor(search: str) -> None:
    function = njit(error_model="numpy")(getattr(predicates, search).py_func)
    function.compile(SEARCHES[search])
    (text,) = function.inspect_llvm().values()
    binding.initialize_native_asmprinter()
    for processor in PROCESSORS:
        machine = binding.Target.from_default_triple().create_target_machine(cpu=processor, opt=3)
        assembly = machine.emit_assembly(binding.parse_assembly(text))
        assert "cmov" in assembly, processor
        assert not BRANCH.search(assembly), processor


def test_values_of_two_types_are_refused() -> None:
    with pytest.raises(Exception, match="select"):
        chosen(True, np.uint64(1), 1.0)
