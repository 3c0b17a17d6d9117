"""Every CUDA kernel compiles to PTX that our oldest driver reads, on a machine without one."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PTX_OF_DRIVER_580 = (9, 0)  # CUDA 13.0; a driver refuses PTX of a newer version than its own


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """PTX by "module.kernel sm_90"."""
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(here / "ptx_compile.py")],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0", "PYTHONPATH": str(here.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    texts = json.loads(result.stdout)
    if "skip" in texts:
        pytest.skip(texts["skip"])
    return texts


def ptxas() -> str | None:
    """NVIDIA's assembler: of the nvidia-cuda-nvcc wheel, or of a toolkit on the path."""
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "ptxas"
    return str(wheel) if wheel.exists() else shutil.which("ptxas")


def test_every_kernel_has_a_signature_to_compile_it_with(texts: dict[str, str]) -> None:
    assert [label for label, text in texts.items() if text == "no signature"] == []
    assert {"cuda_kernels.transform sm_80", "cuda_kernels.transform sm_90"} <= set(texts)


def test_each_is_an_entry_point_for_its_architecture(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        assert f".target {label.split()[1]}\n" in text, label
        assert ".visible .entry" in text, label


def test_the_ptx_is_no_newer_than_the_driver(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        version = re.search(r"^\.version (\d+)\.(\d+)$", text, re.MULTILINE)
        assert version is not None, label
        assert (int(version[1]), int(version[2])) <= PTX_OF_DRIVER_580, label


def test_features_are_rounded_once_at_the_end(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if label.startswith("cuda_kernels.transform"):
            assert "cvt.rn.f32.f64" in text, label
            assert not re.search(r"\b(add|sub|mul|fma|div)\.[a-z.]*f32", text), label
            assert ".ftz.f32" not in text, label


@pytest.mark.skipif(ptxas() is None, reason="ptxas is not installed")
def test_no_kernel_spills_registers(texts: dict[str, str], tmp_path: Path) -> None:
    for label, text in texts.items():
        source = tmp_path / "kernel.ptx"
        source.write_text(text)
        command = [str(ptxas()), "-v", f"-arch={label.split()[1]}", "-o", str(tmp_path / "kernel.cubin"), str(source)]
        report = subprocess.run(command, capture_output=True, text=True, check=False)
        assert report.returncode == 0, report.stderr
        spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", report.stderr)
        assert spills, report.stderr
        assert set(spills) == {"0"}, f"{label}: {report.stderr}"
