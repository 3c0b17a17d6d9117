"""Settings that contradict each other, or ask for something that is not installed here."""

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.address import STORES, AddressError, parse_address

if TYPE_CHECKING:
    from app.config.settings import Settings

MLFLOW_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "")
DATABASE_SCHEMES = ("sqlite", "postgresql")

SELECTING = ("MODEL_ALIAS", "MODEL_STAGE", "MODEL_FALLBACK_STAGE", "MODEL_FALLBACK_ANY")
"""Settings that choose a version of a registered model."""

OF_A_REGISTRY = (*SELECTING, "MODEL_CANARY_ALIAS", "MODEL_SHADOW_ALIAS", "MODEL_PIN_ALIAS", "MLFLOW_WEBHOOK_SECRET")

OF_A_RUN = ("MODEL_MIN_R2", "MODEL_MAX_RMSE")
"""Settings about the metrics of a run."""

ELSEWHERE = {"databricks": "Databricks", "databricks-uc": "Databricks", "uc": "Unity Catalog", "arn": "SageMaker"}
"""Registries that MLflow knows as well, by what their URIs begin with."""

DRIVERS = {
    "postgresql": {"": "psycopg2", "psycopg2": "psycopg2", "psycopg": "psycopg"},
    "mysql": {"": "MySQLdb", "mysqldb": "MySQLdb", "pymysql": "pymysql"},
    "mssql": {"": "pyodbc", "pyodbc": "pyodbc", "pymssql": "pymssql"},
}
"""Module of each driver that a URI can name, by scheme; that of a URI which names none comes first."""

HINTS = {
    "postgresql": "write postgresql+psycopg://, whose driver is installed",
    "mysql": "install the mysql extra, uv pip install -e '.[mysql]' in a checkout, and write mysql+pymysql://",
    "mssql": "install pymssql, and write mssql+pymssql://",
}

CLIENTS = {"s3": "boto3", "gcs": "google.cloud.storage", "azure": "azure.storage.blob"}
"""Module that each extra for an object store installs."""

LEAST_BASELINE = 2_000
"""Fewest rows of a reference. One window of 500 rows in 200 then has a PSI above 0.1 by chance; with 500, one in 5."""

GRPC_MODULES = ("grpc", "grpc_health", "grpc_reflection", "google.protobuf")
"""Modules that the grpc extra installs."""

OTEL_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
"""Modules that the otel extra installs."""


def environ_of_model(model: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for a model that a command or a function was given the address of.

    Variables that choose a model of the registry are for the service, and do not count.

    Args:
        model: The address.
        environ: Variables by name.

    Raises:
        AddressError: The address is none.
    """
    has_run = parse_address(model).kind in ("run", "registered")
    unused = {*OF_A_REGISTRY, "MODEL_NAME", "MODEL_NAMES", *(() if has_run else OF_A_RUN)}
    return {name: value for name, value in environ.items() if name not in unused} | {"MODEL_PATH": model}


def contradictions(settings: "Settings", given: frozenset[str]) -> list[str]:
    """Lines about settings that cannot be together, each beginning with the name of one.

    Args:
        settings: The settings, each of which is valid alone.
        given: Names of the variables that were set.
    """
    problems: list[str] = []
    if settings.enable_prometheus and settings.prometheus_port == settings.api_port:
        problems.append(f"PROMETHEUS_PORT: must differ from API_PORT, both are {settings.api_port}")
    problems += _about_grpc(settings)
    if settings.traces:
        problems += _about_traces()
    for name, schemes in (
        ("mlflow_tracking_uri", MLFLOW_SCHEMES),
        ("mlflow_registry_uri", MLFLOW_SCHEMES),
        ("database_url", DATABASE_SCHEMES),
    ):
        value: str | None = getattr(settings, name)
        if value and (problem := _about_scheme(value, schemes)) is not None:
            problems.append(f"{name.upper()}: {problem}")
    if settings.mlflow_registry_uri and not settings.mlflow_tracking_uri:
        problems.append("MLFLOW_REGISTRY_URI: must be set together with MLFLOW_TRACKING_URI")
    problems += _about_tls(settings)
    if settings.model_pin_alias is not None:
        problems += _about_pin_alias(settings, settings.model_pin_alias)
    if settings.api_key_second is not None and settings.api_key is None:
        problems.append("API_KEY_SECOND: must be set together with API_KEY")
    if settings.model_names is not None:
        problems += [
            f"MODEL_NAMES: must not be set together with {name}, which names one model"
            for name in ("MODEL_NAME", "MODEL_PATH")
            if name in given
        ]
    if settings.prediction_log == "durable" and not settings.prediction_log_rows:
        problems.append("PREDICTION_LOG: must not be durable with PREDICTION_LOG_ROWS=0, which keeps no row")
    if 0 < settings.drift_baseline_rows < LEAST_BASELINE:
        because = "a reference of fewer rows alarms by chance"
        problems.append(f"DRIFT_BASELINE_ROWS: must be 0 or at least {LEAST_BASELINE}, since {because}")
    return problems + _about_path(settings, given)


def _about_tls(settings: "Settings") -> list[str]:
    """Lines about the settings of TLS and of the Unix socket."""
    cert, key, client_ca = settings.api_tls_cert, settings.api_tls_key, settings.api_tls_client_ca
    problems: list[str] = []
    if cert is not None and key is None:
        problems.append("API_TLS_KEY: must be set together with API_TLS_CERT")
    for name, value in (("KEY", key), ("KEY_PASSWORD", settings.api_tls_key_password), ("CLIENT_CA", client_ca)):
        if value is not None and cert is None:
            problems.append(f"API_TLS_{name}: must be set together with API_TLS_CERT")
    if cert is not None and settings.api_unix_socket is not None:
        problems.append("API_TLS_CERT: must not be set together with API_UNIX_SOCKET, which no other machine reaches")
    return problems


def _about_pin_alias(settings: "Settings", alias: str) -> list[str]:
    """Lines about MODEL_PIN_ALIAS, which is written to the registry."""
    if not re.fullmatch(r"(?!latest$|v\d+$)[\w-]{1,255}", alias, re.ASCII | re.IGNORECASE):
        because = "letters, digits, _ and -, and neither latest nor v and a number"
        return [f"MODEL_PIN_ALIAS: must be an alias that MLflow takes: {because}"]
    others = ("model_alias", "model_canary_alias", "model_shadow_alias")
    return [
        f"MODEL_PIN_ALIAS: must differ from {name.upper()}, both are {alias}"
        for name in others
        if getattr(settings, name) == alias
    ]


def _about_grpc(settings: "Settings") -> list[str]:
    """Lines about GRPC_PORT."""
    port = settings.grpc_port
    if port is None:
        return []
    others = {"API_PORT": settings.api_port}
    if settings.enable_prometheus:
        others["PROMETHEUS_PORT"] = settings.prometheus_port
    problems = [f"GRPC_PORT: must differ from {name}, both are {port}" for name in others if others[name] == port]
    if not all(_is_installed(module) for module in GRPC_MODULES):
        extra = "install the grpc extra, in a checkout by uv pip install -e '.[grpc]'"
        problems.append(f"GRPC_PORT: needs grpcio, which is not installed: {extra}")
    return problems


def _about_scheme(uri: str, schemes: tuple[str, ...]) -> str | None:
    """What is wrong with the scheme of a URI, without the rest of it; None where nothing is."""
    try:
        scheme, _, driver = urlsplit(uri).scheme.partition("+")
    except ValueError:  # the message may hold a password
        return "is not a valid URI; a bracket in a user or password is written %5B or %5D"
    elsewhere = ELSEWHERE.get(uri.partition(":")[0])
    if elsewhere is not None and "" in schemes:
        return f"{elsewhere} is not supported: set up an MLflow server, or name a model's files by MODEL_PATH"
    if scheme not in schemes:
        return f"must be a URI whose scheme is one of {', '.join(scheme for scheme in schemes if scheme)}"
    if scheme not in DRIVERS or "" not in schemes:  # the prediction log has its driver
        return None
    if (module := DRIVERS[scheme].get(driver)) is None:
        return f"must name one of the drivers {', '.join(name for name in DRIVERS[scheme] if name)}"
    return None if _is_installed(module) else f"needs the driver {module}, which is not installed: {HINTS[scheme]}"


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
    return f"install the {extra} extra, in a checkout by uv pip install -e '.[{extra}]'"


def _about_traces() -> list[str]:
    if not all(_is_installed(module) for module in OTEL_MODULES):
        extra = "install the otel extra, in a checkout by uv pip install -e '.[otel]'"
        return [f"TRACES: needs OpenTelemetry's SDK and exporter, which are not installed: {extra}"]
    try:
        import_module(OTEL_MODULES[0]).SpanLimits()  # reads OTEL_…_LIMIT variables, as each start of traces does
    except ValueError as error:
        return [f"TRACES: {error}"]
    return []


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
