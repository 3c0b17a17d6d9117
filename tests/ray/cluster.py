"""A Ray cluster of two nodes in one machine, and rows that its workers wait for."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.data import DataContext

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
ENVIRON = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # a busy machine needs more than the 5 s after which it is killed
}


@contextmanager
def two_nodes() -> Generator[Cluster]:
    """A cluster of two nodes with a processor each, to which this process is connected. Nothing of it stays."""
    directory = tempfile.mkdtemp(prefix="ray-")  # of a short name, since it holds sockets
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRON.items():
            patch.setenv(name, value)
        patch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
        patch.setenv("RAY_TMPDIR", directory)
        (Path(directory) / "ray").mkdir()  # where Ray notes the cluster's address, and fails on a machine without it
        head = {**NODE, "node_ip_address": "127.0.0.2", "temp_dir": directory}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        add_node(cluster)
        ray.init(address=cluster.address, _node_ip_address="127.0.0.2", log_to_driver=False, logging_level="ERROR")
        DataContext.get_current().enable_progress_bars = False
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            shutil.rmtree(directory)
    left = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=30)
    assert [process.cmdline() for process in alive] == []


def add_node(cluster: Cluster) -> Any:
    """A second node, which can be removed."""
    return cluster.add_node(**NODE, node_ip_address="127.0.0.3")


def held_from(first: int, folder: Path) -> Callable[[Any], Any]:
    """A step for tables with an id, which waits at the rows from `first` on until `folder/go` exists.

    A process that waits has a file of its id in the folder.
    """

    def hold(table: Any) -> Any:
        if table.column("id")[0].as_py() >= first:
            (folder / str(os.getpid())).touch()
            while not (folder / "go").exists():
                time.sleep(0.02)
        return table

    return hold
