"""The embedded registry of a fresh machine: an SQLite file in DATA_DIR with the bundled model."""

import contextlib
import fcntl
import logging
from collections.abc import Generator
from pathlib import Path

import msgspec

from app.config.settings import Settings
from app.models.registry.publish import publish
from app.models.registry.source import RegistryUnreachable

BUNDLED = Path(__file__).parent / "bundled"
"""The committed model: `model/` as MLflow stores it, `card/`, `provenance.json`."""

log = logging.getLogger(__name__)


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Name, parameters, metrics and tags of a training run, from which its MLflow run is made."""

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def prepare_embedded_registry(settings: Settings) -> None:
    """Create the embedded registry if it is missing, and register the bundled model if MODEL_NAME names it.

    Raises:
        RegistryUnreachable: DATA_DIR cannot be written or the database cannot be read.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    provenance = read_provenance(BUNDLED)
    try:
        with _locked(settings.data_dir):
            if not (settings.data_dir / "mlflow.db").exists():
                log.info("creating the embedded registry")
            client = MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.registry_uri)
            known = client.search_registered_models(f"name='{provenance.name}'")
            if known or settings.model_name != provenance.name:
                return
            version = publish(settings, BUNDLED / "model", card=BUNDLED / "card", **msgspec.structs.asdict(provenance))
            log.info("bundled model registered", extra={"model_version": version})
    except (MlflowException, OSError) as error:
        raise RegistryUnreachable(
            f"the embedded registry in DATA_DIR cannot be set up: {type(error).__name__}"
        ) from error


def read_provenance(directory: Path) -> Provenance:
    """Read the provenance file of a model that `madrone train --output` wrote."""
    return msgspec.json.decode((directory / "provenance.json").read_bytes(), type=Provenance)


@contextlib.contextmanager
def _locked(data_dir: Path) -> Generator[None, None, None]:
    """Lock DATA_DIR against another process that starts at the same time."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
