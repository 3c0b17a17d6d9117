"""The ServiceMonitor."""

import yaml

from app.config.settings import Settings
from app.ops.service_monitor import service_monitor


def test_it_scrapes_the_metrics_port_of_the_settings() -> None:
    monitor = yaml.safe_load(service_monitor(Settings(prometheus_port=9123)))
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    assert monitor["spec"]["endpoints"] == [{"targetPort": 9123, "path": "/metrics", "interval": "15s"}]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= monitor["metadata"]["labels"].items()
