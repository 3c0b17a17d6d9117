"""A ServiceMonitor, by which the operator of Prometheus finds the service in Kubernetes."""

from typing import Any

import yaml

from app.config.settings import Settings

LABEL, NAME = "app.kubernetes.io/name", "madrone"
INTERVAL = "15s"


def service_monitor(settings: Settings) -> str:
    """The ServiceMonitor as YAML."""
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": NAME, "labels": {LABEL: NAME}},
        "spec": scraping(settings, {LABEL: NAME}),
    }
    return yaml.safe_dump(monitor, sort_keys=False)


def scraping(settings: Settings, labels: dict[str, str]) -> dict[str, Any]:
    """What is scraped: PROMETHEUS_PORT, which has the same series as /metrics on API_PORT.

    One port, since two would count everything twice. The one for metrics only stays open where the API's is not.

    Args:
        settings: Those of the service.
        labels: Labels of the Service whose pods are scraped.
    """
    return {
        "selector": {"matchLabels": labels},
        "endpoints": [{"targetPort": settings.prometheus_port, "path": "/metrics", "interval": INTERVAL}],
    }
