"""Names of all series that the service can have."""

from tests.routes.test_info import FAMILIES

SOMETIMES: dict[str, str] = {
    "gpu_utilization_percent": "gauge", "gpu_memory_used_bytes": "gauge", "gpu_memory_total_bytes": "gauge",
    "gpu_temperature_celsius": "gauge", "model_alias_missing": "gauge", "prediction_log_spool_bytes": "gauge",
    "prediction_log_flush_seconds": "histogram",
}  # fmt: skip
"""Families that only a GPU, an alias or a durable log makes."""

PROCESS = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
}  # fmt: skip

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
KINDS = {name: kind for name, (kind, _) in FAMILIES.items()} | SOMETIMES
SERIES = {"up"} | PROCESS | {name + suffix for name, kind in KINDS.items() for suffix in SUFFIXES[kind]}
