"""What a GPU's memory, threads and death come to, by numba-cuda itself on a stand-in for the driver."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
NOTHING = {"device": 0, "pinned": 0}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `driver_run.py` saw."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the stand-in for a driver needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    flags = ("-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", str(library))
    subprocess.run([compiler, *flags, str(HERE / "stand_in_driver.c"), "-ldl"], check=True)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "driver_run.py")],
        env=os.environ
        | {"NUMBA_ENABLE_CUDASIM": "0", "PYTHONPATH": str(HERE.parents[2]), "LD_LIBRARY_PATH": str(library.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    if "skip" in seen:
        pytest.skip(seen["skip"])
    return seen | {"stderr": result.stderr}


def test_the_device_is_known_by_nvml_s_uuid(seen: dict[str, Any]) -> None:
    assert seen["device"] == ["Stand-in GPU", "GPU-11111111-1111-1111-1111-111111111111"]


def test_kernels_are_compiled_ahead_beside_the_thread_that_others_wait_for(seen: dict[str, Any]) -> None:
    plain, referring = seen["compiled"]
    of_forests = ["ranks", "ranks", "forest", "tabulate", "contributions", "add_parts"]
    assert [name for name, _ in plain] == ["transform", *of_forests]
    assert [name for name, _ in referring] == ["transform", "references", *of_forests]
    assert {thread for _, thread in plain + referring} == {"MainThread"}


def test_what_is_let_go_of_in_any_thread_is_freed_by_the_device_s(seen: dict[str, Any]) -> None:
    dropped = seen["dropped"]
    assert dropped["before"] == dropped["after"] == NOTHING
    assert dropped["without context"] == 0
    assert 0 < dropped["most"] < 20_000_000  # of one backend at a time


def test_a_replaced_model_answers_calls_in_progress_and_is_freed(seen: dict[str, Any]) -> None:
    swapped = seen["swapped"]
    assert swapped["answers"] == [70_000]
    assert not swapped["alive"]
    assert swapped["before"] == swapped["after"] == NOTHING


def test_a_closed_engine_has_freed_all_and_the_cpu_answers(seen: dict[str, Any]) -> None:
    closed = seen["closed"]
    assert min(closed["during"].values()) > 1_000_000
    assert closed["before"] == closed["after"] == NOTHING
    assert closed["error"] == "the backend is closed"
    assert closed["right"]
    assert closed["explained"] == [70_000, 1, 8]


def test_batches_of_ever_other_sizes_do_not_make_the_process_grow(seen: dict[str, Any]) -> None:
    first, once, twice = seen["sizes"]["described"]
    assert once - first < 1500  # of 1000 sizes, for each of which numba would describe some ten arrays
    assert twice - once < 50


@pytest.mark.parametrize("kind", ["device", "pinned"])
def test_a_lack_of_memory_frees_what_numba_has_not_freed_yet(seen: dict[str, Any], kind: str) -> None:
    short = seen[f"short of {kind}"]
    assert "CUDA_ERROR_OUT_OF_MEMORY" in short["error"]
    assert min(short["kept"].values()) > 50_000
    assert short["after"]["pinned"] == 0
    assert short["after"]["device"] < 1000  # the program and the forest
    assert short["again"] == 70_000


def test_a_context_that_died_is_dead_for_all_later_models(seen: dict[str, Any]) -> None:
    died = seen["died"]
    assert died["right"]
    assert died["backends"] == [["cpu"], ["cpu"]]
    assert [name for name, _ in died["disabled"]] == ["cuda", "cuda"]
    for text in (died["disabled"][0][1], died["disabled"][1][1], died["refusal"], died["unavailable"]):
        assert "CUDA_ERROR_ILLEGAL_ADDRESS" in text
    assert "restarted" in died["refusal"]


def test_it_all_ends_without_a_complaint(seen: dict[str, Any]) -> None:
    assert seen["left"] == 70_000  # rows, of a backend that was never closed
    assert seen["errors"] == []
    # One report, of the failure that was asked for.
    assert seen["stderr"].count("Traceback") == 1
