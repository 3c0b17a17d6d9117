"""Killed processes, and several at once, leave whole entries."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.disk.storing import keep, names, open_store, place, versions_that_load, with_another_example
from tests.models.support import SavedModel
from tests.support import ROOT

KILLED = """
import json, os, pathlib, signal, sys
from tests.models.disk.storing import FILES, described, open_store
directory, model, version, versions = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), *sys.argv[3:]
entry = described(model, version)
CALLS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")

def killing(name, counted):
    call = getattr(os, name)
    def wrapped(*arguments, **options):
        counted[0] -= 1
        if counted[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return wrapped

for point in range(1000):
    child = os.fork()
    if child == 0:
        counted = [point]
        for name in CALLS:
            setattr(os, name, killing(name, counted))
        open_store(directory / str(point) / "models", int(versions)).keep(model, FILES, entry)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(json.dumps(status), flush=True)
    if status == 0:
        break
"""


def first(model: Path, directory: Path) -> None:
    """Nothing is there before."""


def one(model: Path, directory: Path) -> None:
    keep(open_store(directory), model, "1")


def both(model: Path, directory: Path) -> None:
    keep(open_store(directory), model, "1")
    keep(open_store(directory), model, "2")


def same_with_another_example(model: Path, directory: Path) -> None:
    keep(open_store(directory), model, "1")
    keep(open_store(directory), with_another_example(model, directory.parent / "other"), "2")


POINTS = 48
"""At least as many as a keep has."""


@pytest.mark.parametrize(
    ("prepare", "versions", "outcomes"),
    [
        pytest.param(first, 2, ([], ["2"]), marks=pytest.mark.slow),
        pytest.param(one, 2, (["1"], ["2", "1"]), marks=pytest.mark.slow),
        pytest.param(one, 1, (["1"], ["2", "1"], ["2"]), marks=pytest.mark.slow),
        pytest.param(both, 2, (["2", "1"],), marks=pytest.mark.slow),
        (same_with_another_example, 2, (["2", "1"], ["1"])),
    ],
    ids=["first", "one more", "the oldest goes", "again", "replaced"],
)
def test_a_process_that_is_killed_while_it_keeps_leaves_whole_entries(
    prepare: Callable[[Path, Path], Any],
    versions: int,
    outcomes: tuple[list[str], ...],
    saved: SavedModel,
    tmp_path: Path,
) -> None:
    (tmp_path / "0").mkdir()
    prepare(saved.directory, tmp_path / "0" / "models")
    for point in range(1, POINTS):
        shutil.copytree(tmp_path / "0", tmp_path / str(point))
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(saved.directory), "2", str(versions)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    statuses = [json.loads(line) for line in process.stdout.splitlines()]
    assert statuses, process.stderr
    assert statuses == [9] * (len(statuses) - 1) + [0]
    assert 5 < len(statuses) <= POINTS
    seen: list[list[str]] = []
    for point in range(len(statuses)):
        directory = tmp_path / str(point) / "models"
        store = open_store(directory)
        seen.append(versions_that_load(store))
        assert store.status().quarantined == ()
        keep(store, saved.directory, "3")
        for left in place(directory).glob("incoming-*"):
            os.utime(left, (0, 0))
        assert "3" in versions_that_load(store)
        assert len(names(place(directory))) == len(store.status().entries)
    assert {tuple(it) for it in seen} == {tuple(it) for it in outcomes}


KEEPING = """
import os, pathlib, sys
from tests.models.disk.storing import FILES, described, open_store
directory, model = map(pathlib.Path, sys.argv[1:])
entry = {str(number): described(model, str(number)) for number in range(3)}
waiting, begin = os.pipe()

def keep(offset):
    store = open_store(directory)
    os.read(waiting, 1)
    for number in range(10):
        store.keep(model, FILES, entry[str((number + offset) % 3)])
        for known in store.entries():
            try:
                store.load(known)
            except Exception as error:
                print(f"{type(error).__name__}: {error}", flush=True)
    print(store.status().quarantined, store.status().last_error, flush=True)

children = []
for offset in range(2):
    children.append(os.fork())
    if children[-1] == 0:
        os.close(begin)
        keep(offset)
        os._exit(0)
os.close(begin)  # both begin
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def test_processes_at_once_leave_whole_entries(saved: SavedModel, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KEEPING, str(tmp_path / "models"), str(saved.directory)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = done.stdout.splitlines()
    assert [line for line in told if line != "() None" and not line.startswith("StoreCorrupt: it is gone")] == []
    assert told.count("() None") == 2
    assert len(versions_that_load(open_store(tmp_path / "models"))) == 2
