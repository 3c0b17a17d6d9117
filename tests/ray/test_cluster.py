"""Datasets scored on a cluster of two nodes, whose workers and nodes are lost meanwhile; and the service there."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray", reason="Ray is not installed, which the extra `ray` brings")

import ray.data
from ray import serve
from ray.cluster_utils import Cluster
from ray.exceptions import UserCodeException

import madrone.ray
from app.config.settings import SettingsError
from app.models.registry.embedded import BUNDLED
from app.score.options import ScoreOptions, ScoreRefused
from app.score.scorer import Scorer
from tests.ray.cluster import add_node, held_from, two_nodes
from tests.score.support import bundled, houses, small_model
from tests.support import Client, eventually, free_port

pytestmark = [
    pytest.mark.slow,
    # A thread in which Ray lists files may be interrupted when it has listed them all.
    pytest.mark.filterwarnings("ignore:Exception in thread pool-:pytest.PytestUnhandledThreadExceptionWarning"),
]

BLOCKS, BLOCK_ROWS = 32, 125
ROWS = BLOCKS * BLOCK_ROWS

PASSING = ("request_id", "processing_time_ms", "batch_id")
"""Fields of answers that are others each time."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    small_model(tmp_path / "m.txt")
    return str(tmp_path / "m.txt")


def rows() -> Any:
    values = np.random.default_rng(3).normal(size=(ROWS, 3))
    return pa.table({"id": np.arange(ROWS)} | {name: values[:, place] for place, name in enumerate("xyz")})


def blocks(table: Any) -> ray.data.Dataset:
    return ray.data.from_arrow([table.slice(start, BLOCK_ROWS) for start in range(0, len(table), BLOCK_ROWS)])


def collected(dataset: ray.data.Dataset) -> Any:
    return pa.concat_tables(ray.get(dataset.to_arrow_refs()))


def expected(model: str, table: Any) -> Any:
    """What LightGBM predicts, by id."""
    import lightgbm as lgb

    values = np.column_stack([table.column(name).to_numpy() for name in "xyz"])
    return pa.table({"id": table.column("id"), "prediction": lgb.Booster(model_file=model).predict(values)})


def test_a_dataset_is_scored_to_the_same_bits_on_both_nodes(cluster: Cluster) -> None:
    table = houses(ROWS)
    scored = madrone.ray.score(
        blocks(table), str(BUNDLED / "model"), interval=0.9, explain=2, concurrency=2, batch_size=BLOCK_ROWS
    )
    found = collected(scored).sort_by("id")
    options = ScoreOptions(level=0.9, explain=True, top=2)
    (batch,) = table.combine_chunks().to_batches()
    assert found.combine_chunks().equals(pa.Table.from_batches([Scorer(bundled(), options).score(batch)]))


def test_actors_need_neither_the_model_s_file_nor_its_other_columns(
    cluster: Cluster, model: str, tmp_path: Path
) -> None:
    table = rows()
    right = expected(model, table)
    pq.write_table(table.append_column("unused", pa.array(["text"] * ROWS)), tmp_path / "in.parquet")
    source = ray.data.read_parquet(str(tmp_path / "in.parquet"), override_num_blocks=2)
    scored = madrone.ray.score(source, model, keep=["id"], batch_size=300)
    Path(model).unlink()
    scored.write_parquet(str(tmp_path / "out"))
    assert pq.read_table(tmp_path / "out").sort_by("id").equals(right)


def test_a_bad_row_fails_by_its_number_and_column_has_null_or_is_left_out(cluster: Cluster, model: str) -> None:
    table = rows().slice(0, 300)
    right = expected(model, table)
    bad = table.column("x").to_numpy().copy()
    bad[217] = np.inf
    source = ray.data.from_arrow(table.set_column(1, "x", pa.array(bad)))
    with pytest.raises(UserCodeException, match=r"ScoreRefused: Of 100 rows in a batch[^#]*row 17: x must be a finite"):
        madrone.ray.score(source, model, batch_size=100).materialize()
    good = np.arange(300) != 217
    nulls = collected(madrone.ray.score(source, model, on_error="null"))
    assert nulls.column("prediction").null_count == 1
    assert nulls.filter(good).equals(right.filter(good))
    assert collected(madrone.ray.score(source, model, on_error="skip")).equals(right.filter(good))


def test_what_cannot_be_scored_is_refused_at_once(cluster: Cluster, model: str) -> None:
    with pytest.raises(ScoreRefused, match="y is missing"):
        madrone.ray.score(blocks(rows().drop_columns(["y"])), model)
    with pytest.raises(ScoreRefused, match=r"no intervals of level 0\.9"):
        madrone.ray.score(blocks(rows()), model, interval=0.9)
    with pytest.raises(ValueError, match="explain must be"):
        madrone.ray.score(blocks(rows()), model, explain=0)


def lose(break_it: Callable[[set[int]], object], model: str, folder: Path) -> Any:
    """Score rows, and break something as soon as both actors are in the middle of a block."""
    held = blocks(rows()).map_batches(held_from(ROWS // 2, folder), batch_format="pyarrow", batch_size=None)
    scored = madrone.ray.score(held, model, concurrency=2, batch_size=BLOCK_ROWS)
    pool = ThreadPoolExecutor(1)
    try:
        found = pool.submit(collected, scored)
        eventually(lambda: found.done() or len(list(folder.iterdir())) == 2, 90)
        waiting = {int(path.name) for path in folder.iterdir()}
        assert all("RowScorer" in " ".join(psutil.Process(pid).cmdline()) for pid in waiting)
        break_it(waiting)
    finally:
        (folder / "go").touch()
        wait([found], 120)  # it uses the cluster, which must not end before
    return found.result(0)


def test_a_killed_worker_loses_and_repeats_no_row(
    cluster: Cluster, model: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def kill_one(pids: set[int]) -> None:
        process = psutil.Process(min(pids))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)

    found = lose(kill_one, model, tmp_path_factory.mktemp("held"))
    assert found.sort_by("id").equals(expected(model, rows()))


def test_a_lost_node_loses_and_repeats_no_row(
    cluster: Cluster, model: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (node,) = cluster.worker_nodes
    try:
        found = lose(lambda _: cluster.remove_node(node, allow_graceful=False), model, tmp_path_factory.mktemp("held"))
        assert found.sort_by("id").equals(expected(model, rows()))
    finally:
        add_node(cluster)


@pytest.fixture(scope="module")
def served(cluster: Cluster, registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the service on Ray Serve, with a replica on each node."""
    port, metrics, log = free_port(), free_port(), tmp_path_factory.mktemp("served") / "predictions.db"
    settings = {"DATA_DIR": str(registry_dir), "DATABASE_URL": f"sqlite:///{log}", "API_DEBUG": "true"}
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings |= {"PROMETHEUS_PORT": str(metrics)}
    app = madrone.ray.deployment(settings=settings, num_replicas=2, ray_actor_options={"num_cpus": 0.5})
    serve.run(app, route_prefix="/houses")
    yield f"http://127.0.0.1:{port}/houses"
    serve.shutdown()


async def test_ray_serve_answers_as_the_service_does(served: str, client: Client, example: dict[str, float]) -> None:
    (batch,) = houses(100_000).drop_columns(["id"]).to_batches()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    arrow = {
        "content": sink.getvalue().to_pybytes(),
        "headers": {"Content-Type": "application/vnd.apache.arrow.stream"},
    }
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/predict", {"json": example}),
        ("POST", "/predict/?interval=0.8&explain=raw", {"json": example}),
        ("POST", "/predict", {"json": {}}),
        ("POST", "/predict/batch", {"json": {"predictions": [example, {}]}}),
        ("POST", "/predict/bulk", arrow),
        ("POST", "/invocations", {"json": {"dataframe_records": [example] * 2}}),
        ("GET", "/v2/models/california-housing-model", {}),
        ("HEAD", "/health/ready", {}),
        ("GET", "/health/ready", {}),
        ("GET", "/openapi.json", {}),
        ("GET", "/no/route", {}),
    ]
    async with httpx.AsyncClient(base_url=served, trust_env=False, verify=False, timeout=60) as far:
        for method, path, body in requests:
            near, distant = [_lasting(await one.request(method, path, **body)) for one in (client, far)]
            assert near == distant, path
        assert (
            'predictions_total{model_name="california-housing-model",model_version="1"'
            in (await far.get("/metrics")).text
        )
        assert (await far.get("/docs")).status_code == 200


def _lasting(answer: httpx.Response) -> tuple[object, ...]:
    """What an answer has whenever it is asked for."""
    content: Any = answer.content
    if "json" in answer.headers["content-type"] and content:
        content = {name: value for name, value in answer.json().items() if name not in PASSING}
    return answer.status_code, answer.headers["content-type"], len(answer.headers.get_list("x-request-id")), content


def test_a_replica_without_a_model_fails_with_the_reason(served: str, tmp_path: Path) -> None:
    app = madrone.ray.deployment(
        str(tmp_path / "none.txt"), {"DATA_DIR": str(tmp_path)}, max_constructor_retry_count=1,
        ray_actor_options={"num_cpus": 0},
    )  # fmt: skip
    with pytest.raises(RuntimeError):
        serve.run(app, name="modelless", route_prefix="/modelless")
    status = serve.status().applications["modelless"]
    assert "No model is served: " in status.deployments["Madrone"].message
    serve.delete("modelless")


def test_settings_that_a_deployment_cannot_have_are_refused() -> None:
    with pytest.raises(SettingsError, match="MAX_BULK_ROWS: must be"):
        madrone.ray.deployment(settings={"MAX_BULK_ROWS": "many"})
    with pytest.raises(ValueError, match="PREDICTION_LOG: must not be durable"):
        madrone.ray.deployment(settings={"PREDICTION_LOG": "durable"})
    assert "sesame" not in repr(madrone.ray.deployment(settings={"API_KEY": "sesame"}).__dict__)
