"""The log lines of a compilation."""

import gc
import logging

import pytest
from numba import njit

from kernels.compiling import compiling_logged


def test_the_first_compilation_is_logged_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    @njit
    def inner(x):
        return x + 1

    @njit
    def outer(x):
        return 2 * inner(x)

    with caplog.at_level(logging.INFO), compiling_logged():
        assert caplog.messages == []
        before = gc.get_freeze_count()
        assert outer(1) == 4
        assert gc.get_freeze_count() > before  # the collector is spared what a service has
        told += caplog.messages
        assert outer(2) == 6  # is there by now
        assert outer(1.0) == 4.0  # another type of argument
    assert told == ["compiling kernels, which are kept for later starts"]
    assert caplog.messages == [*told, "kernels compiled"]
    line = vars(caplog.records[-1])
    assert line["functions"] == 4
    assert line["seconds"] >= 0


def test_where_nothing_is_compiled_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), compiling_logged():
        pass
    assert caplog.messages == []


def test_a_failure_does_not_hide_what_was_compiled(caplog: pytest.LogCaptureFixture) -> None:
    @njit
    def fail(x):
        raise ValueError("no")

    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="no"), compiling_logged():
        fail(1)
    assert caplog.messages[-1] == "kernels compiled"
