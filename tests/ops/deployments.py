"""Deployments of the tests: what `madrone ops` makes manifests of."""

from typing import Any

import yaml

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


def encrypted(environ: dict[str, str] | None = None, client_ca: str | None = None) -> Plan:
    """A deployment whose API speaks TLS, and with `client_ca` only to clients with a certificate."""
    files = {"API_TLS_CERT": "/home/me/cert.pem", "API_TLS_KEY": "/home/me/key.pem"}
    return plan({**files, **({} if client_ca is None else {"API_TLS_CLIENT_CA": client_ca}), **(environ or {})})


def by_kind(manifest: str) -> dict[str, Any]:
    """The objects of a manifest by their kinds."""
    return {one["kind"]: one for one in yaml.load_all(manifest, yaml.CSafeLoader) if one is not None}
