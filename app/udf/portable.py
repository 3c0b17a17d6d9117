"""A model on its way to other processes: plain data, of which each of them makes the same model."""

from pathlib import Path

import msgspec

from app.config.settings import Settings
from app.models.artifact import ModelContent
from app.models.identity import ModelIdentity
from app.models.loader import load_preferred
from app.models.refusal import ModelRefused
from app.models.registry.source import ModelSource
from app.models.served import ServedModel, serve_artifact
from app.models.watch.around import SourceAround
from kernels.cache import kernels_version
from kernels.cost import Cost


class PortableModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that has passed every check, as data that can be pickled.

    Attributes:
        content: The model, whose features are as the settings have them.
        identity: Its version.
        metrics: Metrics of the training run.
        resolved_by: Selection rule that chose this version.
        costs: Costs of its batches by device, as far as they were measured.
        kernels: Version of the kernels that it was checked with.
    """

    content: ModelContent
    identity: ModelIdentity
    metrics: dict[str, float]
    resolved_by: str
    costs: dict[str, Cost]
    kernels: str

    def served(self) -> ServedModel:
        """Make the model ready to predict in this process. Its scores are not compared with LightGBM's again.

        Raises:
            ModelRefused: This process has other kernels than those that it was checked with.
        """
        if self.kernels != kernels_version():
            raise ModelRefused("it was checked by another version of Madrone than the one that is to use it", "kernels")
        artifact = self.content.artifact()
        engine = artifact.engine()
        engine.warm_up(artifact.sample(), self.costs)
        return serve_artifact(artifact, engine, self.identity, self.metrics, self.resolved_by)


class _ContentKept(SourceAround):
    """Passes all questions on, and keeps what the last model was made of."""

    content: ModelContent

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        self.content = super().build(directory, digest)
        return self.content


def load_portable(settings: Settings, source: ModelSource) -> tuple[ServedModel, PortableModel]:
    """Load the model that the settings prefer, for this process and for others: see `load_preferred`."""
    kept = _ContentKept(source)
    served = load_preferred(settings, kept)
    return served, PortableModel(
        content=msgspec.structs.replace(kept.content, features=served.artifact.features),
        identity=served.identity,
        metrics=served.metrics,
        resolved_by=served.resolved_by,
        costs=served.engine.costs(),
        kernels=kernels_version(),
    )
