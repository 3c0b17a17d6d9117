"""Predictions have LightGBM's bits on any processor: NumPy picks its functions by what the processor has."""

import os
import subprocess
import sys

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from tests.support import ROOT

SAME_BITS = (
    "tests/kernels/forest/test_forest.py::test_predicts_what_the_booster_predicts",
    "tests/kernels/forest/test_objectives.py::test_scores_of_one_output",
    "tests/kernels/forest/test_objectives.py::test_scores_of_three_outputs_together",
)
"""Tests of equal bits, which ran with all that this processor has. None needs a fixture of conftest.py, whose imports
take longer than the tests."""

PLAIN = (
    "-q",
    "-c",
    os.devnull,
    "--rootdir",
    str(ROOT),
    "-p",
    "no:cacheprovider",
    "-p",
    "tests.kernels.bare",
    "--noconftest",
)
"""Without what the tests do not need and takes long to import."""

OPTIONAL = tuple(feature for feature in __cpu_dispatch__ if __cpu_features__[feature])
"""What NumPy uses of this processor and can do without."""


@pytest.mark.skipif(not OPTIONAL, reason="NumPy uses nothing of this processor that it could do without")
def test_bits_are_the_same_without_what_numpy_can_do_without() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *PLAIN, *SAME_BITS],
        cwd=ROOT,
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(OPTIONAL), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:]


def test_numba_takes_no_other_mathematics_than_the_c_librarys() -> None:
    from numba.core import config

    assert not config.USING_SVML
