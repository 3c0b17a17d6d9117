"""A real Prometheus that scrapes both ports of a real service."""

from collections.abc import Callable

from tests.monitoring import Prometheus
from tests.support import BY_PATH, HTTP, Server, eventually


def test_prometheus_reads_from_both_ports_what_was_sent(
    serve: Callable[..., Server], prometheus: Callable[..., Prometheus], example: dict[str, float]
) -> None:
    server = serve(**BY_PATH).wait_ready()
    watcher = prometheus([server.port, server.prometheus_port])
    for _ in range(7):
        assert HTTP.post(f"{server.url}/predict", json=example).status_code == 200
    assert HTTP.post(f"{server.url}/predict/batch", json={"predictions": [example] * 5}).status_code == 200
    addresses = {f"127.0.0.1:{port}" for port in (server.port, server.prometheus_port)}
    eventually(lambda: watcher.up() == dict.fromkeys(addresses, "up"), 60)

    def rows() -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for labels, value in watcher.query("predictions_total"):
            found.setdefault(labels["instance"], {})[labels["prediction_type"]] = value
        return found

    eventually(lambda: rows() == {address: {"single": 7, "batch": 5} for address in addresses}, 60)
