"""MLflow's client in the model process: its set-up, and its exceptions as those of a `ModelSource`."""

import errno
import importlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.config.settings import Settings
from app.models.refusal import ModelRefused
from app.models.registry.database import is_database, keep_no_connections, read_only_uris
from app.models.registry.faults import fault_kind, without_credentials
from app.models.registry.http import is_http, limit_requests
from app.models.registry.source import NothingToServe, PlaceUnreachable, RegistryUnreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

HTTP_RETRIES = 1
"""Retries of one HTTP request to the registry. MLflow's default of 7 would outlast every deadline."""

MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of this machine's disk. Any other OSError may come from the other end of a connection."""


def configure_mlflow(settings: Settings) -> None:
    """Set what MLflow reads from the environment alone. Values that the operator set stay."""
    # The first two are read at each request, the others at import, so that MLflow's log lines get our format.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(settings.model_lookup_timeout / 2))))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(HTTP_RETRIES))
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    keep_no_connections(settings)


def prepare_mlflow(settings: Settings) -> None:
    """Import the libraries of look-ups. That takes seconds, which must not count against a registry's deadline."""
    importlib.import_module("mlflow")
    uris = settings.tracking_uri, settings.registry_uri
    if any(map(is_http, uris)):
        limit_requests()
    if any(map(is_database, uris)):
        importlib.import_module("mlflow.store.model_registry.sqlalchemy_store")


def mlflow_client(settings: Settings, *, writes: bool = False) -> "MlflowClient":
    """A client of the tracking server and the registry, which only reads databases.

    Args:
        settings: Settings that name both.
        writes: Whether it may write to the registry.

    Raises:
        RegistrySchema: A database has another schema than this MLflow.
        Exception: A database cannot be opened; the exception is the driver's.
    """
    from mlflow import MlflowClient

    tracking_uri, registry_uri = read_only_uris(settings)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=settings.registry_uri if writes else registry_uri)


@contextmanager
def answering(missing: Exception, settings: Settings) -> Generator[None, None, None]:
    """Turn exceptions of MLflow and its libraries into ours: something is missing, or there is no answer.

    Args:
        missing: Raised where MLflow says that something does not exist.
        settings: Settings, which say whether a registry is asked or a place.
    """
    from mlflow.exceptions import MlflowException

    unreachable = RegistryUnreachable if settings.place is None else PlaceUnreachable
    try:
        yield
    except (ModelRefused, NothingToServe, RegistryUnreachable):
        raise
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise missing from error
        raise unreachable(fault_kind(error), without_credentials(str(error))) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
            raise
        # Stores and artifact clients let exceptions of SQLAlchemy, botocore, requests and others through.
        detail = without_credentials(f"{type(error).__name__}: {error}")
        raise unreachable(fault_kind(error), detail) from error
