"""Deployments of the tests: what `madrone ops` makes manifests of."""

from pathlib import Path
from typing import Any

import msgspec

from app.config.settings import Settings
from app.ops.manifests.plan import Plan

EVERYTHING = {
    "API_PORT": "9000",
    "PROMETHEUS_PORT": "9001",
    "GRPC_PORT": "9002",
    "METRICS_PREFIX": "ours_",
    "MODEL_NAME": 'on: "quoted" # no comment',
    "MODEL_ALIAS": "1e5",
    "DRIFT": "0",
    "CORS_ORIGINS": "https://a.example, https://b.example",
    "SHUTDOWN_DELAY": "2.5",
    "SHUTDOWN_GRACE": "40",
    "TRACES": "true",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4444",
    "API_KEY": "sesame-open",
    "ADMIN_API_KEY": "sesame-admin",
    "DATABASE_URL": "postgresql://user:sesame-database@db.example/log",
    "MLFLOW_TRACKING_URI": "https://user:sesame-mlflow@mlflow.example",
    "MLFLOW_REGISTRY_URI": "http://user:sesame-registry@registry.example:5555",
}
"""A value for settings of each kind, and secrets that have `sesame` in them."""


def plan(environ: dict[str, str] | None = None, **options: Any) -> Plan:
    """The deployment of some variables."""
    given = environ or {}
    return Plan(settings=Settings.from_environ(given), environ=given, **options)


class Encrypted(Settings, frozen=True, kw_only=True):
    """Settings with a certificate."""

    api_tls_cert: Path | None = None
    api_tls_key: Path | None = None
    api_tls_client_ca: Path | None = None


def encrypted(environ: dict[str, str] | None = None, client_ca: str | None = None) -> Plan:
    """A deployment whose API speaks TLS, and with `client_ca` only to clients with a certificate."""
    given = {"API_TLS_CERT": "/home/me/cert.pem", "API_TLS_KEY": "/home/me/key.pem", **(environ or {})}
    if client_ca is not None:
        given["API_TLS_CLIENT_CA"] = client_ca
    files = {name.lower(): Path(path) for name, path in given.items() if name.startswith("API_TLS")}
    settings = msgspec.structs.asdict(Settings.from_environ(environ or {})) | files
    return Plan(settings=Encrypted(**settings), environ=given)
