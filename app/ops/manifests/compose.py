"""A folder for Docker Compose: the service with an MLflow server, PostgreSQL, Prometheus and Grafana.

What is mounted is files of the folder, not `content` of the document: Compose copies that into containers, which it
cannot where their root is read-only (docker/compose#12031).
"""

import secrets
from typing import Any

from app.ops.dashboard import dashboard
from app.ops.manifests.cluster import made_by
from app.ops.manifests.plan import HOME, SECRETS_AT, TLS_AT, Plan
from app.ops.manifests.pod import USER
from app.ops.manifests.text import Json, Quoted, written
from app.ops.rules import rules

POSTGRES, PROMETHEUS, GRAFANA = "postgres:17", "prom/prometheus:v3.5.0", "grafana/grafana:11.6.0"
"""Images. MLflow's server comes with that of Madrone, in the version that Madrone was tried with."""

MLFLOW_PORT, PROMETHEUS_PORT, GRAFANA_PORT = 5000, 9090, 3000

OWN = frozenset(("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DATABASE_URL"))
"""Settings that name servers, in the place of which Compose starts its own."""

RANDOM_BYTES = 24

PASSWORD_AT = SECRETS_AT / "POSTGRES_PASSWORD"
ARTIFACTS = HOME / "artifacts"
DASHBOARDS = "/etc/grafana/dashboards"

SERVE_MLFLOW = " ".join(
    (
        f'MLFLOW_BACKEND_STORE_URI="postgresql+psycopg://madrone:$$(cat {PASSWORD_AT})@postgres/mlflow"',
        f"exec mlflow server --host 0.0.0.0 --port {MLFLOW_PORT} --workers 2 --serve-artifacts",
        f"--artifacts-destination {ARTIFACTS} --allowed-hosts mlflow:{MLFLOW_PORT},localhost:*,127.0.0.1:*",
    )
)
"""Command of the MLflow server, which takes a password from its environment or its command line only."""


def compose(plan: Plan) -> dict[str, str]:
    """The files by their paths, with random passwords in `secrets/`."""
    password = secrets.token_hex(RANDOM_BYTES)
    files = {
        "compose.yaml": made_by("compose") + written(_project(plan)),
        "postgres/databases.sql": "CREATE DATABASE mlflow;\n",
        "secrets/.gitignore": "*\n",
        "secrets/POSTGRES_PASSWORD": password,
        "secrets/DATABASE_URL": f"postgresql://madrone:{password}@postgres/madrone",
    }
    if plan.settings.enable_prometheus:
        prefix = plan.settings.metrics_prefix or ""
        files |= {
            "prometheus/prometheus.yml": written(_scraping(plan)),
            "prometheus/rules.yml": rules(plan.settings, prefix),
            "grafana/provisioning/datasources/prometheus.yml": written(DATA_SOURCE),
            "grafana/provisioning/dashboards/madrone.yml": written(PROVIDER),
            "grafana/dashboards/madrone.json": dashboard(prefix),
            "secrets/GRAFANA_PASSWORD": secrets.token_hex(RANDOM_BYTES),
        }
    return files


def needed(plan: Plan) -> list[str]:
    """Files that the folder lacks, by their paths in it: those with what only its owner knows."""
    found = [f"secrets/{name}" for name in plan.secrets if name not in OWN]
    return found + [f"tls/{name}" for name in plan.tls_files]


DATA_SOURCE: Json = {
    "apiVersion": 1,
    "datasources": [
        {"name": "Prometheus", "type": "prometheus", "url": f"http://prometheus:{PROMETHEUS_PORT}", "isDefault": True}
    ],
}
PROVIDER: Json = {
    "apiVersion": 1,
    "providers": [{"name": "Madrone", "type": "file", "options": {"path": DASHBOARDS}}],
}


def _project(plan: Plan) -> Json:
    services = {"madrone": _madrone(plan), "mlflow": _mlflow(plan), "postgres": _postgres()}
    volumes = ["madrone", "mlflow", "postgres"]
    if plan.settings.enable_prometheus:
        services |= {"prometheus": _prometheus(), "grafana": _grafana()}
        volumes += ["prometheus", "grafana"]
    used = sorted({one["source"] for service in services.values() for one in service.get("secrets", ())})
    return {
        "name": plan.name,
        "services": services,
        "networks": {"service": {}, "database": {"internal": True}},
        "volumes": {name: {} for name in volumes},
        "secrets": {name: {"file": f"./secrets/{name}"} for name in used},
    }


def _service(image: str, user: int, more: Json) -> Json:
    """A service that has no more rights than it needs."""
    return {
        "image": Quoted(image),
        "user": Quoted(f"{user}:{user}"),
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        **more,
    }


def _madrone(plan: Plan) -> Json:
    names = [*(name for name in plan.secrets if name not in OWN), "DATABASE_URL"]
    variables = plan.places | plan.variables | {"MLFLOW_TRACKING_URI": f"http://mlflow:{MLFLOW_PORT}"}
    variables |= {f"{name}_FILE": str(SECRETS_AT / name) for name in names}
    ports = [number for name, number in plan.ports.items() if name != "metrics"]
    volumes = [f"madrone:{HOME}", *([f"./tls:{TLS_AT}:ro"] if plan.tls else [])]
    return _service(
        plan.image,
        USER,
        {
            # Compose puts variables of its own in the place of what follows a single $.
            "environment": {name: Quoted(value.replace("$", "$$")) for name, value in variables.items()},
            "secrets": [_secret(name) for name in names],
            "ports": [_published(number) for number in ports],
            "networks": ["service", "database"],
            "volumes": volumes,
            "depends_on": {name: {"condition": "service_healthy"} for name in ("mlflow", "postgres")},
            "healthcheck": {"start_period": "300s"},  # and what the image asks
            "stop_grace_period": f"{plan.ending_s}s",
            "mem_limit": f"{plan.memory_mib}m",
        },
    )


def _mlflow(plan: Plan) -> Json:
    code = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{MLFLOW_PORT}/health', timeout=5)"
    return _service(
        plan.image,
        USER,
        {
            "command": ["sh", "-c", SERVE_MLFLOW],
            "environment": {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": Quoted("false")},
            "secrets": [_secret("POSTGRES_PASSWORD")],
            "ports": [_published(MLFLOW_PORT, "127.0.0.1:")],
            "networks": ["service", "database"],
            "volumes": [f"mlflow:{HOME}"],  # where the image's user may write
            "depends_on": {"postgres": {"condition": "service_healthy"}},
            "healthcheck": _check(["CMD", "python", "-c", code], start="120s"),
        },
    )


def _postgres() -> Json:
    user = 999  # of the image
    return _service(
        POSTGRES,
        user,
        {
            "environment": {
                "POSTGRES_USER": "madrone",
                "POSTGRES_DB": "madrone",
                "POSTGRES_PASSWORD_FILE": str(PASSWORD_AT),
            },
            "tmpfs": ["/tmp", f"/var/run/postgresql:uid={user},gid={user}"],
            "secrets": [_secret("POSTGRES_PASSWORD")],
            "networks": ["database"],
            "volumes": [
                "postgres:/var/lib/postgresql/data",
                "./postgres/databases.sql:/docker-entrypoint-initdb.d/databases.sql:ro",
            ],
            "healthcheck": _check(["CMD", "pg_isready", "-U", "madrone", "-d", "mlflow"], start="60s"),
            "shm_size": "128m",
        },
    )


def _prometheus() -> Json:
    ready = f"http://127.0.0.1:{PROMETHEUS_PORT}/-/ready"
    return _service(
        PROMETHEUS,
        65534,
        {
            "ports": [_published(PROMETHEUS_PORT, "127.0.0.1:")],
            "networks": ["service"],
            "volumes": ["prometheus:/prometheus", "./prometheus:/etc/prometheus:ro"],
            "healthcheck": _check(["CMD", "wget", "-q", "-O", "/dev/null", ready], start="60s"),
        },
    )


def _grafana() -> Json:
    health = f"http://127.0.0.1:{GRAFANA_PORT}/api/health"
    return _service(
        GRAFANA,
        472,
        {
            "environment": {
                "GF_SECURITY_ADMIN_PASSWORD__FILE": str(SECRETS_AT / "GRAFANA_PASSWORD"),
                "GF_ANALYTICS_REPORTING_ENABLED": Quoted("false"),
                "GF_ANALYTICS_CHECK_FOR_UPDATES": Quoted("false"),
                "GF_PLUGINS_PREINSTALL_DISABLED": Quoted("true"),
            },
            "secrets": [_secret("GRAFANA_PASSWORD")],
            "ports": [_published(GRAFANA_PORT, "127.0.0.1:")],
            "networks": ["service"],
            "volumes": [
                "grafana:/var/lib/grafana",
                "./grafana/provisioning:/etc/grafana/provisioning:ro",
                f"./grafana/dashboards:{DASHBOARDS}:ro",
            ],
            "depends_on": {"prometheus": {"condition": "service_healthy"}},
            "healthcheck": _check(["CMD", "wget", "-q", "-O", "/dev/null", health], start="60s"),
        },
    )


def _published(port: int, address: str = "") -> Quoted:
    """A port of a service that is also one of the host, of all its addresses or of one."""
    return Quoted(f"{address}{port}:{port}")


def _secret(name: str) -> Json:
    return {"source": name, "target": str(SECRETS_AT / name)}


def _check(command: list[str], start: str) -> Json:
    return {"test": command, "interval": "10s", "timeout": "5s", "retries": 3, "start_period": start}


def _scraping(plan: Plan) -> dict[str, Any]:
    target = f"madrone:{plan.settings.prometheus_port}"
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "madrone", "static_configs": [{"targets": [target]}]}],
    }
