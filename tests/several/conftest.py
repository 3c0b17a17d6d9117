"""Apps that serve several models: their settings, their registry, and what each model answers."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from app.config.settings import Settings
from app.main import create_app
from tests.models.support import NAMES, SavedModel, save_booster, tiny_booster, tiny_rows
from tests.models.support import catalogue as catalogue
from tests.models.support import houses as houses
from tests.routes.support import register
from tests.support import Client, come_true, free_port, in_process

ROW = dict(zip(NAMES, (0.5, -0.25, 3.0), strict=True))
MODELS = "prices,churn?alias=champion,risk?stage=Staging&canary_alias=next&canary_percent=100"


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A booster that MLflow saved; not to be changed."""
    return made(tmp_path_factory.mktemp("saved") / "model", 0)


class Fleet(msgspec.Struct, frozen=True):
    """A client of an app with the models `prices`, `churn` and `risk`, of which the last has no version.

    Attributes:
        client: The client.
        settings: Settings of the app.
        saved: The directory of a model of each name.
        answers: What they predict for ROW.
    """

    client: Client
    settings: Settings
    saved: dict[str, Path]
    answers: dict[str, float]

    def of(self, name: str) -> Any:
        """The services of a model."""
        return self.client.app.services.models[name]

    def publish(self, name: str, **options: Any) -> str:
        """Register the model of a name once more."""
        settings = msgspec.structs.replace(self.settings, model_names=None, model_name=name)
        return register(settings, self.saved[name], **options)

    async def predicted(self, path: str) -> float:
        """What a route answers to ROW."""
        response = await self.client.post(path, json=ROW)
        assert response.status_code == 200, response.text
        return response.json()["prediction"]


def made(directory: Path, number: int) -> SavedModel:
    booster = tiny_booster(tiny_rows()[:, 0] + 10 * number)
    return SavedModel(save_booster(booster, directory), booster, tiny_rows())


async def all_looked(client: Client) -> None:
    """Wait until each model was looked for, and its keeper waits for the next look."""
    models = client.app.services.models.values()
    await come_true(lambda: all(one.keeper.next_look() is not None for one in models))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """An app with three models; what tests do to it adds up."""
    root = tmp_path_factory.mktemp("several")
    models = {name: made(root / name, number) for number, name in enumerate(("prices", "churn", "risk"))}
    settings = Settings(
        data_dir=root / "data", database_url=f"sqlite:///{root / 'log.db'}", model_names=MODELS, admin_api_key="admin",
        prometheus_port=free_port(), grpc_port=free_port(), api_host="127.0.0.1", mlflow_webhook_secret="hook",
    )  # fmt: skip
    saved = {name: model.directory for name, model in models.items()}
    row = [list(ROW.values())]
    answers = {name: float(model.booster.predict(row)[0]) for name, model in models.items()}  # type: ignore[index]
    (root / "data").mkdir(mode=0o700)
    shutil.copy(registry_dir / "mlflow.db", root / "data")  # with tables, which take seconds to make
    app = create_app(settings, **in_process(settings))
    client = Client(app)
    fleet = Fleet(client, settings, saved, answers)
    fleet.publish("prices")
    fleet.publish("churn", alias="champion")
    async with client:
        await all_looked(client)
        yield fleet
