"""A ServiceMonitor, by which the operator of Prometheus finds the service in Kubernetes."""

import yaml

from app.config.settings import Settings

LABEL, NAME = "app.kubernetes.io/name", "madrone"
INTERVAL = "15s"


def service_monitor(settings: Settings) -> str:
    """The ServiceMonitor as YAML: it scrapes PROMETHEUS_PORT, which has the same series as /metrics on API_PORT.

    One port, since two would count everything twice. The one for metrics only stays open where the API's is not.
    """
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": NAME, "labels": {LABEL: NAME}},
        "spec": {
            "selector": {"matchLabels": {LABEL: NAME}},
            "endpoints": [{"targetPort": settings.prometheus_port, "path": "/metrics", "interval": INTERVAL}],
        },
    }
    return yaml.safe_dump(monitor, sort_keys=False)
