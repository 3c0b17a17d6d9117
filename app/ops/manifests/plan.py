"""What all manifests of a deployment are made from: the settings of the environment, and what a command was told."""

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import msgspec

from app import __version__
from app.address import STORES
from app.config.environ import FILE, SECRETS
from app.config.settings import Settings

HOME = PurePosixPath("/var/lib/madrone")
"""Home of the image's user, the only directory beside /tmp that the service writes to."""

SECRETS_AT, TLS_AT = PurePosixPath("/run/secrets/madrone"), PurePosixPath("/run/secrets/tls")

PLACES = {
    "data_dir": str(HOME / "data"), "api_tls_cert": str(TLS_AT / "tls.crt"), "api_tls_key": str(TLS_AT / "tls.key"),
    "api_tls_client_ca": str(TLS_AT / "ca.crt"),
}  # fmt: skip
"""Settings that are paths on the machine where the command runs, and what they are in a container."""

OF_THE_MACHINE = frozenset(("api_host", "api_unix_socket", "api_unix_socket_mode", *PLACES))
"""Settings that a container has its own values for. It listens on all addresses, so that its probes reach it."""

SHAPING = ("api_port", "enable_prometheus", "prometheus_port", "grpc_port", "shutdown_delay", "shutdown_grace",
           "api_workers")  # fmt: skip
"""Settings from which more follows in a manifest than an environment variable, such as ports."""

PORTS = {"https": 443, "http": 80, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Ports of the schemes of registries and databases, where their address has none."""

OTLP_PORT = 4318

MOST_TO_FEWEST = 4
"""Most replicas, as a multiple of the fewest, unless told."""

PRESTOP_S = 5
"""Seconds that a pod which ends still takes new requests: load balancers of the cluster learn of its end meanwhile."""

SPARE_S = 5
"""Seconds for the end of processes and logs, beyond what the settings give to requests."""

SHARED_MIB, WORKER_MIB, LARGER_MODEL_MIB = 290, 230, 240
"""Memory of the processes beside the workers while a model is checked, and of a worker, with the bundled model; and
what is added for larger ones. Measured as proportional set size (PSS) in a container of one worker: 520 MiB at most
during a first start, which compiles, and 524 MiB while tables of 300,000 rows are predicted."""

FURTHER_MODEL_MIB = 16
"""Allowance for each further model of MODEL_NAMES in each worker. One of the bundled model's size takes 7 MiB."""

ROWS_SHARE = 0.25
"""Share of the memory that rows in flight may take, see MAX_ROWS_IN_FLIGHT."""

STEP_MIB = 256

LEAST_PORT = 1024
"""Least port that a process without rights may listen on everywhere."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment.

    Attributes:
        settings: Those of the environment.
        environ: Variables by name that they were read from.
        name: Name of its objects.
        namespace: Namespace of its objects; None leaves it to the command that applies them.
        image: Image of its containers.
        replicas: Fewest replicas.
        max_replicas: Most replicas.
    """

    settings: Settings
    environ: Mapping[str, str]
    name: str = "madrone"
    namespace: str | None = None
    image: str = f"madrone:{__version__}"
    replicas: int = 2
    max_replicas: int = 2 * MOST_TO_FEWEST

    @property
    def variables(self) -> dict[str, str]:
        """Settings that differ from their defaults, without secrets, as variables; the shaping ones come first."""
        found: dict[str, str] = {}
        for field in msgspec.structs.fields(type(self.settings)):
            text = self.environ.get(field.name.upper(), "")
            if not text.strip() or field.name in SECRETS | OF_THE_MACHINE:
                continue
            if getattr(self.settings, field.name) != field.default:
                found[field.name.upper()] = text if field.name == "model_name" else text.strip()
        return dict(sorted(found.items(), key=lambda one: (one[0].lower() not in SHAPING, one[0])))

    @property
    def places(self) -> dict[str, str]:
        """Variables of the paths in a container: that of DATA_DIR, and those of files that the settings name."""
        return {
            name.upper(): place
            for name, place in PLACES.items()
            if name == "data_dir" or getattr(self.settings, name) is not None
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the variables of secrets that are set, or whose files are."""
        return tuple(sorted(field.upper() for field in SECRETS if getattr(self.settings, field) is not None))

    @property
    def secret_variables(self) -> dict[str, str]:
        """Variables that name the files of the secrets."""
        return {name + FILE: str(SECRETS_AT / name) for name in self.secrets}

    @property
    def tls(self) -> bool:
        """Whether the API's port speaks TLS."""
        return self.settings.api_tls_cert is not None

    @property
    def asks_certificates(self) -> bool:
        """Whether only clients with a certificate reach the API, as probes do not."""
        return self.settings.api_tls_client_ca is not None

    @property
    def tls_files(self) -> list[str]:
        """Names of the files with the certificate, its key, and the authorities of clients."""
        return [PurePosixPath(place).name for name, place in self.places.items() if name != "DATA_DIR"]

    @property
    def workers(self) -> int:
        """Number of worker processes."""
        return getattr(self.settings, "api_workers", 1)

    @property
    def ports(self) -> dict[str, int]:
        """Ports that the service listens on, by name."""
        ports = {"http": self.settings.api_port}
        if self.settings.enable_prometheus:
            ports["metrics"] = self.settings.prometheus_port
        if self.settings.grpc_port is not None:
            ports["grpc"] = self.settings.grpc_port
        return ports

    @property
    def ports_asked(self) -> list[int]:
        """Ports of the servers that the service asks, in their order."""
        settings = self.settings
        ports = {
            port
            for uri in (settings.mlflow_tracking_uri, settings.mlflow_registry_uri, settings.database_url)
            if uri is not None and (port := _port(uri)) is not None
        }
        place = settings.place
        if settings.mlflow_tracking_uri is not None or (place is not None and place.scheme in {*STORES, "https"}):
            ports.add(PORTS["https"])  # of the store that holds models' files
        if settings.traces:
            ports.add(_port(self.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")) or OTLP_PORT)
        return sorted(ports)

    @property
    def ending_s(self) -> int:
        """Seconds from the order to end until all processes have, at most."""
        return PRESTOP_S + math.ceil(self.settings.shutdown_delay) + self.settings.shutdown_grace + SPARE_S

    @property
    def memory_mib(self) -> int:
        """Memory of a replica, which follows from the numbers of its workers and models."""
        worker = WORKER_MIB + FURTHER_MODEL_MIB * (len(self.settings.models) - 1)
        least = (SHARED_MIB + worker * self.workers + LARGER_MODEL_MIB) / (1 - ROWS_SHARE)
        return math.ceil(least / STEP_MIB) * STEP_MIB

    @property
    def notes(self) -> list[str]:
        """What an operator has to know or to do before."""
        settings, notes = self.settings, list[str]()
        place = settings.place
        if place is not None and place.kind == "file":
            notes.append("MODEL_PATH names a file: put it into the image, or mount a volume there.")
        if settings.embedded_registry:
            notes.append("Neither MLFLOW_TRACKING_URI nor MODEL_PATH is set: each replica serves the bundled model.")
        if (further := len(settings.models) - 1) > 0:
            larger = "larger ones need larger resources"
            notes.append(f"The memory has {FURTHER_MODEL_MIB} MiB for each of {further} further models: {larger}.")
        if settings.model_artifact_root is not None:
            notes.append("MODEL_ARTIFACT_ROOT names a directory of the MLflow server: mount its volume there.")
        if min(self.ports.values()) < LEAST_PORT:
            notes.append(f"A port is below {LEAST_PORT}: some clusters refuse it to a container without rights.")
        if settings.prediction_log == "durable":
            notes.append(f"PREDICTION_LOG is durable, but {HOME} ends with its pod: put a volume that stays there.")
        elif settings.prediction_log != "off" and settings.prediction_log_rows and settings.database_url is None:
            notes.append("DATABASE_URL is not set: each replica's prediction log ends with it.")
        return notes


def _port(uri: str) -> int | None:
    """Port of a URI; None where it names no server."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:  # a variable of another program, which says so itself
        return None
    return (port or PORTS.get(parts.scheme.partition("+")[0])) if parts.hostname else None


def labels(name: str) -> dict[str, Any]:
    """Labels by which the objects of a deployment are found."""
    return {"app.kubernetes.io/name": "madrone", "app.kubernetes.io/instance": name}
