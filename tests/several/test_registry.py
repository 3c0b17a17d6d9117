"""Several models of a real MLflow server, asked by the service's own model process."""

from pathlib import Path

import psutil
import pytest

from app.config.settings import Settings
from app.main import create_app
from app.prediction_log.writer import Writer
from tests.several.conftest import all_looked
from tests.shelf import ROW, Shelf
from tests.support import Client, free_port

ADMIN = {"X-API-Key": "admin"}


@pytest.mark.slow
async def test_each_model_follows_its_alias_and_one_process_asks(mlflow_server: str, tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
    first, second = shelves = [Shelf(mlflow_server, f"several-{part}", tmp_path / part) for part in ("a", "b")]
    versions = {shelf.name: shelf.good() for shelf in shelves}
    settings = Settings(
        data_dir=tmp_path / "data", mlflow_tracking_uri=mlflow_server, model_alias="champion", admin_api_key="admin",
        model_names=f"{first.name},{second.name},nowhere", prediction_log="off", prometheus_port=free_port(),
    )  # fmt: skip
    before = psutil.Process().children()
    async with Client(create_app(settings, log_writer=Writer(settings.prediction_log_target))) as client:
        await all_looked(client)
        for shelf in shelves:
            answer = (await client.post(f"/predict/{shelf.name}", json=ROW)).json()
            assert answer["prediction"] == shelf.predictions[versions[shelf.name]]
        assert (await client.post("/predict/nowhere", json=ROW)).status_code == 503
        moved = second.good()
        order = await client.post(f"/health/model/{second.name}/reload", headers=ADMIN)
        assert order.json()["outcome"] == "swapped"
        expected = {first.name: first.predictions[versions[first.name]], second.name: second.predictions[moved]}
        for name, prediction in expected.items():
            assert (await client.post(f"/predict/{name}", json=ROW)).json()["prediction"] == prediction
        asking = [child for child in psutil.Process().children() if child not in before]
        assert len([child for child in asking if "app.models.process.worker" in child.cmdline()]) <= 1
