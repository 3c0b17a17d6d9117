"""A registered model of a registry, each version of which predicts something else."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric

from app.models.artifact import read_artifact
from app.models.registry.mlflow import DIGEST_TAG
from tests.models.support import NAMES, mlflows_own_warnings_silenced, save_booster, tiny_booster, tiny_rows

ALIAS = "champion"
ROW = dict(zip(NAMES, (0.5, -0.25, 3.0), strict=True))


def booster(number: float) -> lgb.Booster:
    """One that no other number gives."""
    return tiny_booster(tiny_rows()[:, 0] + 10 * number)


class Shelf:
    """Publishes versions as an operator does.

    Args:
        url: The tracking server, where the files go through.
        name: The registered model.
        directory: For what is published; must be there.
        registry: The registry's URI, where it is not `url`.

    Attributes:
        predictions: What each version that can be served answers to `ROW`.
    """

    def __init__(self, url: str, name: str, directory: Path, registry: str | None = None) -> None:
        with mlflows_own_warnings_silenced():
            self.client = MlflowClient(url, registry or url)
        self.name = name
        self.predictions: dict[str, float] = {}
        self._directory = directory
        self._count = 0
        self.client.create_registered_model(name)

    def good(
        self, *, alias: str | None = ALIAS, tagged: bool = False, metrics: Mapping[str, float] | None = None
    ) -> str:
        """Publish a version that can be served, `tagged` with its digest or not."""
        model = booster(self._count + 1)
        directory = self.model(model.model_to_string())
        digest = read_artifact(directory).digest if tagged else None
        version = self.publish(directory, alias=alias, digest=digest, metrics=metrics)
        self.predictions[version] = predicted(model)
        return version

    def model(self, text: str) -> Path:
        """A model directory with this booster."""
        self._count += 1
        directory = self._directory / f"{self.name}-{self._count}"
        template = self._directory / "template"
        if not template.is_dir():
            save_booster(booster(0), template)
        shutil.copytree(template, directory)
        (directory / "model.lgb").write_text(text)
        return directory

    def publish(
        self,
        directory: Path,
        *,
        alias: str | None = ALIAS,
        digest: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> str:
        """Publish a directory as it is; the alias moves last, so that nobody sees a half of it."""
        run = self.client.create_run("0")
        run_id = str(run.info.run_id)
        self.client.log_batch(run_id, metrics=[Metric(key, value, 0, 0) for key, value in (metrics or {}).items()])
        self.client.log_artifacts(run_id, str(directory), "model")
        source = f"{run.info.artifact_uri}/model"
        made: Any = self.client.create_model_version(
            self.name, source=source, run_id=run_id, tags={} if digest is None else {DIGEST_TAG: digest}
        )
        version = str(made.version)
        if alias is not None:
            self.point(alias, version)
        return version

    def point(self, alias: str, version: str) -> None:
        """Move an alias."""
        self.client.set_registered_model_alias(self.name, alias, version)


def predicted(model: lgb.Booster) -> float:
    return float(np.asarray(model.predict(np.array([list(ROW.values())])))[0])
