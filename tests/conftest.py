"""How the tests are run: their environment, their order and their examples. The fixtures are in `fixtures.py`."""

import gc
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path

# Before numba is imported anywhere: its CUDA simulator stands in for a GPU in this process.
os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
# Before NumPy and LightGBM are, here and in the processes that tests start. With several tests at once, the threads of
# OpenBLAS and OpenMP wait for processors that others have, and they do so in busy loops: training takes seven times the
# processor time.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from kernels.cache import cache_kernels

cache_kernels(Path(__file__).parents[1] / ".pytest_cache" / "kernels")

import pytest

LONGEST = (
    "tests/test_supervisor.py",
    "cuda/test_ptx.py",
    "tests/test_faults.py",
    "fleet/test_planning.py",
    "codecs/test_wide_tables.py",
    "objects/test_pickle_stream.py",
    "training/test_model.py",
    "tests/test_logged_models.py",
    "tests/test_overload.py",
    "browser/test_views.py",
    "tests/test_readme.py",
    "cpu/test_backend.py",
    "tests/test_model_outages.py",
    "registry/test_process.py",
    "tests/test_shutdown.py",
    "routes/test_docs.py",
    "routes/test_health.py",
    "registry/test_publish.py",
    "predict/test_predict.py",
    "registry/test_mlflow.py",
    "predict/test_cors.py",
    "cuda/test_forest.py",
    "registry/test_worker.py",
    "tests/test_limits.py",
    "forest/test_model_text.py",
    "registry/test_database.py",
    "disk/test_store_processes.py",
    "forest/test_synthetic.py",
)
"""Ends of the names of the modules that take longest, the longest first, so that none of them is a run's last one.

Modules that wait for servers and modules that compute take turns, since two of a kind side by side get in each other's
way. The first compiles the kernels that every app needs, and those up to the model's training need none of them, so
that nothing is compiled twice.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Read the fixtures, but for the process that only hands out the work: to import the app takes it four seconds.

    Fewer examples are tried where the long forms of tests are left out; before modules are imported, which take them.
    """
    if hasattr(config, "workerinput") or not config.option.numprocesses:
        config.pluginmanager.import_plugin("tests.fixtures")
        if config.option.markexpr == "not slow":
            import_module("hypothesis").settings.load_profile("short")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import a share of the test modules before collection, another in each process of a run of all tests.

    All processes collect all modules. Were they to do so side by side in the same order, each would compile every
    module itself in a checkout without bytecode, which takes longer than everything else in a collection.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    first, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    for path in sorted(Path(__file__).parent.rglob("test_*.py"))[first::count]:
        with suppress(Exception, pytest.skip.Exception):  # the collection meets it again, and tells
            import_module(".".join(path.relative_to(Path(__file__).parents[1]).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first; a module's tests stay together and in their order.

    Those that share a client run in their module's event loop, which is the client's.
    """
    for item in items:
        if "shared_client" in getattr(item, "fixturenames", ()) and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
    ranks: dict[Path, int] = {}
    for path in {item.path for item in items}:
        ends = (rank for rank, end in enumerate(LONGEST) if path.as_posix().endswith(f"/{end}"))
        ranks[path] = next(ends, len(LONGEST))
    items.sort(key=lambda item: ranks[item.path])


def pytest_collection_finish() -> None:
    """Search modules and tests for garbage no more: they stay, and each search of them all takes a second.

    What an app leaves behind is searched less often as well: it took a fifth of the processor time of a run.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
