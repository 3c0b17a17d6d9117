"""Compiled kernels are kept apart for each version of their source."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import kernels
from kernels.cache import cache_kernels, kernels_version

SCRIPT = """
import os, pathlib, sys
from kernels.cache import cache_kernels, kernels_version
for _ in range(2):
    cache_kernels(pathlib.Path("given"))
assert "numba" not in sys.modules
print(kernels_version(), os.environ["NUMBA_CACHE_DIR"])
"""


def run(package: Path, **environ: str) -> tuple[str, Path]:
    """The version and the cache's directory that a copy of the package tells, run in the copy's parent."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=package.parent,
        env=environ | {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    version, directory = result.stdout.split()
    return version, Path(directory)


def test_the_path_holds_a_version_that_any_change_changes(tmp_path: Path) -> None:
    package = tmp_path / "kernels"
    shutil.copytree(Path(kernels.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    version, directory = run(package)
    assert directory == tmp_path / "given" / version
    assert run(package) == (version, directory)
    assert run(package, NUMBA_CACHE_DIR=str(tmp_path / "named")) == (version, tmp_path / "named" / version)
    seen = {version}
    for changed in ("cost.py", "plan/features.py", "forest/evaluators/sliced.py", "cpu/steps.py", "cuda/forest.py"):
        with (package / changed).open("a") as file:
            file.write("# changed")
        other, directory = run(package)
        assert other not in seen
        assert directory == tmp_path / "given" / other
        seen.add(other)


def test_where_nothing_can_be_written_a_temporary_directory_is_used(tmp_path: Path) -> None:
    package = tmp_path / "kernels"
    shutil.copytree(Path(kernels.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "given").write_text("a file where the directory should be")
    (tmp_path / "temporary").mkdir()
    version, directory = run(package, TMPDIR=str(tmp_path / "temporary"))
    assert directory.parent.parent == tmp_path / "temporary"
    assert directory.name == version
    assert directory.parent.stat().st_mode & 0o077 == 0


def test_a_numba_that_was_imported_before_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    config = SimpleNamespace(CACHE_DIR="beside the source")
    monkeypatch.setitem(sys.modules, "numba.core.config", config)
    cache_kernels(tmp_path)
    assert str(tmp_path / kernels_version()) == config.CACHE_DIR
