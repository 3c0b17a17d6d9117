"""Lines of numbers: what LightGBM writes is counted, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.forest.fields import count_numbers, read_fields

NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?|inf|nan)", re.ASCII)


@given(st.lists(st.floats() | st.integers()), st.booleans())
def test_numbers_are_counted(numbers: list[float], blank: bool) -> None:
    line = " ".join(map(str, numbers)) + " " * blank
    assert count_numbers({"gain": line}, "gain") == len(numbers)


@given(st.lists(st.text("0139.e+-infa x_\u0663", max_size=5), min_size=1, max_size=4))
def test_whatever_is_no_number_is_refused(words: list[str]) -> None:
    line = " ".join(words)
    told = line.removesuffix(" ").split(" ") if line.removesuffix(" ") else []
    if all(NUMBER.fullmatch(word) for word in told):
        assert count_numbers({"gain": line}, "gain") == len(told)
    else:
        with pytest.raises(ValueError, match="gain holds what is not a number"):
            count_numbers({"gain": line}, "gain")


def test_lines_end_where_lightgbm_ends_them() -> None:
    assert read_fields("names=a\x0b\u2028b\x1c=\nsize=1") == {"names": "a\x0b\u2028b\x1c=", "size": "1"}
    with pytest.raises(ValueError, match="size appears twice"):
        read_fields("size=1\nsize=1")
