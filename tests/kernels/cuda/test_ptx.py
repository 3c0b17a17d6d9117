"""Every CUDA kernel compiles to PTX that our oldest driver reads, on a machine without one."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PTX_OF_DRIVER_580 = (9, 0)  # CUDA 13.0; a driver refuses PTX of a newer version than its own
STATIC_SHARED_MEMORY = 48 * 1024  # bytes that a block can have without asking for more at its launch


@pytest.fixture(scope="module", params=["80", pytest.param("90", marks=pytest.mark.slow)])
def target(request: pytest.FixtureRequest) -> str:
    """Compute capability to compile for."""
    return request.param


def kept(target: str) -> Path:
    """Where PTX is kept until the kernels, `ptx_compile.py` or anything that is installed changes.

    It takes twenty seconds to compile. The directory is that of the CPU's kernels, and named after all of their source.
    """
    digest = hashlib.sha256((HERE / "ptx_compile.py").read_bytes() + sys.version.encode())
    for installed in sorted(f"{found.name} {found.version}" for found in metadata.distributions()):
        digest.update(installed.encode() + b"\0")
    return Path(os.environ["NUMBA_CACHE_DIR"], f"ptx-{target}-{digest.hexdigest()[:16]}.json")


@pytest.fixture(scope="module")
def texts(target: str) -> dict[str, str]:
    """PTX by "module.kernel sm_90 0", the last number being that of the signature."""
    if kept(target).exists():
        return json.loads(kept(target).read_bytes())
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "ptx_compile.py"), target],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0", "PYTHONPATH": str(HERE.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    texts = json.loads(result.stdout)
    if "skip" in texts:
        pytest.skip(texts["skip"])
    written = kept(target).with_suffix(f".{os.getpid()}")
    written.write_text(result.stdout)
    written.replace(kept(target))
    return texts


RESIDENT_THREADS = 2048  # of a multiprocessor of sm_80 and sm_90
REGISTERS = 65_536  # likewise
ENOUGH = {
    "steps.transform": 768,
    "forest.ranks": 1280,
    "forest.forest": 1280,
    "contributions.tabulate": 768,
    "contributions.contributions": 640,
    "contributions.add_parts": 1280,
}
"""Threads that a multiprocessor must hold of the kernels whose loads only other threads can hide."""


def ptxas() -> str | None:
    """NVIDIA's assembler: of the nvidia-cuda-nvcc wheel, or of a toolkit on the path."""
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "ptxas"
    return str(wheel) if wheel.exists() else shutil.which("ptxas")


def kernel_of(label: str) -> str:
    return label.partition(" ")[0]


def innermost_loop(text: str, instruction: str) -> str:
    """The shortest stretch of PTX that holds an instruction and jumps back to its start."""
    lines = text.splitlines()
    labels = {line.partition(":")[0]: place for place, line in enumerate(lines) if line.startswith("$")}
    holds = [place for place, line in enumerate(lines) if instruction in line]
    assert holds, f"no {instruction}"
    branches = [(place, line.split()) for place, line in enumerate(lines) if re.search(r"\bbra\b", line)]
    jumps = [(labels[words[-1].rstrip(";")], place) for place, words in branches]
    around = [(end - start, start, end) for start, end in jumps if start <= holds[0] and holds[-1] <= end]
    _, start, end = min(around)
    return "\n".join(lines[start : end + 1])


def test_every_kernel_has_a_signature_to_compile_it_with(texts: dict[str, str], target: str) -> None:
    assert [label for label, text in texts.items() if text == "no signature"] == []
    assert {f"{name} sm_{target} 0" for name in (*ENOUGH, "references.references")} <= set(texts)
    # Features are of a program, or raw.
    assert f"forest.ranks sm_{target} 1" in texts


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
        if label.startswith("steps.transform"):
            assert "cvt.rn.f32.f64" in text, label
            assert not re.search(r"\b(add|sub|mul|fma|div)\.[a-z.]*f32", text), label
            assert ".ftz.f32" not in text, label


def test_covariances_are_summed_in_float32(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if label.startswith("references.references"):
            loop = innermost_loop(text, "ex2.approx")
            assert re.search(r"\bsqrt\.[a-z.]*f32", loop), label
            assert re.search(r"\bld\.shared\.f32", loop), label
            assert "f64" not in loop, label
            # One exponential for each of the stored rows that are summed at once, of a term and not of each factor.
            assert loop.count("ex2.approx") == 4, label


def test_squared_distances_are_float64_and_rounded(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if label.startswith("references.references"):
            loop = innermost_loop(text, "ld.shared.f64")
            assert re.search(r"\bfma\.rn\.f64", loop), label
            assert "cvt.rn.f32.f64" in text, label


def test_shared_memory_fits_a_block(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        sizes = [int(size) for size in re.findall(r"\.shared \.align \d+ \.b8 \w+\[(\d+)\];", text)]
        assert len(sizes) == text.count(".shared .align"), label
        assert bool(sizes) == (kernel_of(label) in ("references.references", "forest.forest")), label
        assert sum(sizes) <= STATIC_SHARED_MEMORY, label


def test_leaves_are_added_and_nothing_else_is_computed(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if kernel_of(label) == "forest.forest":
            assert re.search(r"\badd(\.rn)?\.f64", text), label
            assert not re.search(r"\b(mul|fma|sub|div|cvt)\.[a-z0-9.]*f(64|32)", text), label
            assert not re.search(r"\b(add|mul|fma)\.[a-z.]*f32", text), label


def test_a_step_down_a_tree_loads_a_node_and_a_rank(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if kernel_of(label) == "forest.forest":
            loop = innermost_loop(text, "ld.global.u16")
            assert len(re.findall(r"\bld\.global\.[ub]64", loop)) == 1, label
            assert len(re.findall(r"\bld\.global\.[ub]16", loop)) == 1, label
            # Of categories besides: where the set starts, and its word.
            assert len(re.findall(r"\bld\.global", loop)) == 4, label


def test_lanes_meet_once_a_tile(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if kernel_of(label) == "forest.forest":
            assert text.count("bar.sync") == 1, label
            assert text.index("st.shared.f64") < text.index("bar.sync") < text.index("ld.shared.f64"), label


def test_nothing_is_added_in_an_order_that_may_change(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        assert not re.search(r"\b(atom|red)\.", text), label


def test_contributions_are_float64_without_a_division_for_a_row(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if kernel_of(label) == "contributions.contributions":
            assert re.search(r"\bfma\.rn\.f64", text), label
            assert not re.search(r"\b(div|rcp|cvt)\.[a-z0-9.]*f(64|32)", text), label
            assert not re.search(r"\b(add|mul|fma)\.[a-z.]*f32", text), label
            # What a thread works in is its column of arrays of the device, and none of it local memory.
            assert ".local" not in text, label


def test_ranks_compare_in_float64(texts: dict[str, str]) -> None:
    for label, text in texts.items():
        if kernel_of(label) == "forest.ranks":
            assert re.search(r"\bsetp\.[a-z]+\.f64", text), label
            assert not re.search(r"\bsetp\.[a-z.]*f32", text), label
            assert ".ftz" not in text, label


@pytest.fixture(scope="module")
def resources(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ptxas tells of each kernel."""
    if ptxas() is None:
        pytest.skip("ptxas is not installed")
    directory, told = tmp_path_factory.mktemp("ptx"), {}
    for label, text in texts.items():
        source = directory / "kernel.ptx"
        source.write_text(text)
        command = [str(ptxas()), "-v", f"-arch={label.split()[1]}", "-o", str(directory / "kernel.cubin"), str(source)]
        report = subprocess.run(command, capture_output=True, text=True, check=False)
        assert report.returncode == 0, report.stderr
        told[label] = report.stderr
    return told


def test_no_kernel_spills_registers(resources: dict[str, str]) -> None:
    for label, told in resources.items():
        spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", told)
        # What a kernel's local arrays take is in the stack frame, which the same line counts apart.
        assert spills, told
        assert set(spills) == {"0"}, f"{label}: {told}"


def test_enough_threads_fit_a_multiprocessor(resources: dict[str, str]) -> None:
    for label, told in resources.items():
        used = re.search(r"Used (\d+) registers", told)
        assert used is not None, told
        # Registers are given to warps, by eight to a thread.
        threads = min(RESIDENT_THREADS, REGISTERS // (-(-int(used[1]) // 8) * 8))
        print(f"{label}: {used[1]} registers, {threads} threads")  # with `pytest -rP`
        if kernel_of(label) in ENOUGH:
            assert threads >= ENOUGH[kernel_of(label)], f"{label}: {used[1]} registers"
