"""Settings that contradict each other, or ask for something that is not installed here."""

from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.address import STORES, AddressError, parse_address

if TYPE_CHECKING:
    from app.settings import Settings

MLFLOW_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "")
DATABASE_SCHEMES = ("sqlite", "postgresql")

SELECTING = ("MODEL_ALIAS", "MODEL_STAGE", "MODEL_FALLBACK_STAGE", "MODEL_FALLBACK_ANY")
"""Settings that choose a version of a registered model."""

OF_A_REGISTRY = (*SELECTING, "MODEL_CANARY_ALIAS", "MODEL_SHADOW_ALIAS", "MLFLOW_WEBHOOK_SECRET")

OF_A_RUN = ("MODEL_MIN_R2", "MODEL_MAX_RMSE")
"""Settings about the metrics of a run."""

CLIENTS = {"s3": "boto3", "gcs": "google.cloud.storage", "azure": "azure.storage.blob"}
"""Module that each extra for an object store installs."""


def contradictions(settings: "Settings", given: frozenset[str]) -> list[str]:
    """Lines about settings that cannot be together, each beginning with the name of one.

    Args:
        settings: The settings, each of which is valid alone.
        given: Names of the variables that were set.
    """
    problems: list[str] = []
    if settings.enable_prometheus and settings.prometheus_port == settings.api_port:
        problems.append(f"PROMETHEUS_PORT: must differ from API_PORT, both are {settings.api_port}")
    for name, schemes in (
        ("mlflow_tracking_uri", MLFLOW_SCHEMES),
        ("mlflow_registry_uri", MLFLOW_SCHEMES),
        ("database_url", DATABASE_SCHEMES),
    ):
        value: str | None = getattr(settings, name)
        if value and urlsplit(value).scheme.split("+")[0] not in schemes:
            named = ", ".join(scheme for scheme in schemes if scheme)
            problems.append(f"{name.upper()}: must be a URI whose scheme is one of {named}")
    if settings.mlflow_registry_uri and not settings.mlflow_tracking_uri:
        problems.append("MLFLOW_REGISTRY_URI: must be set together with MLFLOW_TRACKING_URI")
    return problems + _about_path(settings, given)


def _about_path(settings: "Settings", given: frozenset[str]) -> list[str]:
    """Lines about MODEL_PATH and the settings that make no sense beside it."""
    if settings.model_path is None:
        return []
    try:
        address = parse_address(settings.model_path)
    except AddressError as error:
        return [f"MODEL_PATH: {error}"]
    if address.kind == "registered":
        excluded = ("MODEL_NAME", *SELECTING)
    elif address.kind == "run":
        excluded = OF_A_REGISTRY
    else:
        excluded = (*OF_A_REGISTRY, *OF_A_RUN)
    problems = [
        f"{name}: must not be set together with MODEL_PATH, which names one model" for name in excluded if name in given
    ]
    if address.asks_mlflow and settings.mlflow_tracking_uri is None:
        problems.append(f"MLFLOW_TRACKING_URI: must be set, because MODEL_PATH is a {address.scheme}: address")
    if (missing := missing_client(address.scheme)) is not None:
        problems.append(f"MODEL_PATH: is in a store whose client is not installed: {missing}")
    return problems


def missing_client(scheme: str) -> str | None:
    """What to do about the client of an object store that is not installed; None where nothing is missing."""
    extra = STORES.get(scheme)
    if extra is None or _is_installed(CLIENTS[extra]):
        return None
    return f"install the {extra} extra: pip install 'madrone[{extra}]'"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
