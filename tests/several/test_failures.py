"""A model whose load crashes the model process, hangs, or takes too much memory: it alone is refused."""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.config.settings import Settings
from app.main import create_app
from app.models.process.channel import Channel
from app.models.process.client import WorkerProcess
from app.models.process.worker import ModelWorker
from app.prediction_log.writer import Writer
from tests.models.registry.working import altered_python
from tests.several.conftest import ROW, Fleet, all_looked, made
from tests.support import Client, come_true, free_port

ADMIN = {"X-API-Key": "admin"}

BUILD_S = 1

START_S = 20.0
"""Time for the model process to start on a busy machine, which no limit of a model counts."""

MIB = 2**20

FAILING = """
import time
worker.ModelWorker.prepare = lambda self: None
build = worker.ModelWorker.build

def fail_or_build(self, directory, digest):
    if (directory / "hang").exists():
        time.sleep(600)
    if (directory / "grow").exists():
        taken = b"x" * 2**30
        time.sleep(600)
    if (directory / "crash").exists():
        worker.os.abort()
    return build(self, directory, digest)

worker.ModelWorker.build = fail_or_build
"""
"""Fails over a model with a file of that name. It does not import MLflow, which takes seconds."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


class ReadApart(ModelWorker):
    """Asks the registry in this process, and has models read in the model process that all share."""

    def __init__(self, settings: Settings, channel: Channel) -> None:
        super().__init__(settings)
        apart: Any = WorkerProcess(settings, channel=channel)
        self.build, self.raw_scores, self.close = apart.build, apart.raw_scores, apart.close


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """An app with two models, which the model process reads that `FAILING` altered."""
    root = tmp_path_factory.mktemp("failing")
    models = {name: made(root / name, number) for number, name in enumerate(("prices", "churn"))}
    settings = Settings(
        data_dir=root / "data", model_names="prices,churn", admin_api_key="admin", prediction_log="off",
        model_build_timeout=BUILD_S, prometheus_port=free_port(),
    )  # fmt: skip
    (root / "data").mkdir(mode=0o700)
    shutil.copy(registry_dir / "mlflow.db", root / "data")
    channel = Channel(settings.models, memory=800 * MIB)
    writer = Writer(settings.prediction_log_target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", altered_python(root, FAILING))
        client = Client(create_app(settings, sources=lambda one: ReadApart(one, channel), log_writer=writer))
        saved = {name: model.directory for name, model in models.items()}
        row: Any = [list(ROW.values())]
        answers = {name: float(model.booster.predict(row)[0]) for name, model in models.items()}  # type: ignore[index]
        fleet = Fleet(client, settings, saved, answers)
        for name in saved:
            fleet.publish(name)
        async with client:
            await all_looked(client)
            yield fleet


def reloading(fleet: Fleet, name: str) -> asyncio.Task[dict[str, Any]]:
    """An order to look for another version of a model. The client blocks the thread that it is called in."""

    def order() -> dict[str, Any]:
        return asyncio.run(fleet.client.post(f"/health/model/{name}/reload", headers=ADMIN)).json()

    return asyncio.create_task(asyncio.to_thread(order))


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("crash", "the process that was to read it ended over it"),
        ("hang", f"reading it took longer than MODEL_BUILD_TIMEOUT = {BUILD_S} s"),
        pytest.param("grow", "to read it takes more than 800 MiB of memory", marks=pytest.mark.slow),
    ],
)
async def test_it_alone_is_refused(failing: str, reason: str, two: Fleet, tmp_path: Path) -> None:
    good = two.saved["churn"]
    two.saved["churn"] = shutil.copytree(good, tmp_path / "failing")
    (tmp_path / "failing" / failing).touch()
    version = two.publish("churn")
    two.saved["churn"] = good
    newer = two.publish("prices")
    began = time.monotonic()
    failed = reloading(two, "churn")
    await come_true(lambda: two.of("churn").refresher.loading is not None)
    order = reloading(two, "prices")  # while the other one is being read
    answered = 0
    while not failed.done():
        assert await two.predicted("/predict/prices") == two.answers["prices"]
        assert await two.predicted("/predict/churn") == two.answers["churn"]
        answered += 1
        await asyncio.sleep(0.01)
    assert answered > 1
    refused = await failed
    assert (refused["outcome"], refused["version"], refused["reason"]) == ("refused", version, reason)
    swapped = await order
    assert (swapped["outcome"], swapped["version"]) == ("swapped", newer)
    assert time.monotonic() - began < BUILD_S + START_S
    health = (await two.client.get("/health/model/churn")).json()
    assert (health["version"], health["last_refusal"]["reason"]) == ("1", reason)
    other = (await two.client.get("/health/model/prices")).json()
    assert (other["version"], other["last_refusal"]) == (newer, None)
