"""Names of all series that the service can have."""

from tests.routes.test_info import FAMILIES

PLANNED: dict[str, str] = {
    "feature_bin": "counter", "feature_missing": "counter", "feature_out_of_range": "counter",
    "feature_rows": "counter", "feature_bin_reference_share": "gauge", "feature_missing_reference_share": "gauge",
    "drift_psi": "gauge", "drift_js_divergence": "gauge", "drift_ks": "gauge", "drift_level": "gauge",
    "drift_prediction_psi": "gauge", "drift_prediction_ks": "gauge", "drift_prediction_level": "gauge",
    "outcomes": "counter", "outcome_rows": "gauge", "outcome_rmse": "gauge", "outcome_mae": "gauge",
    "outcome_r2": "gauge", "outcome_interval_coverage": "gauge", "outcome_log_loss": "gauge", "outcome_auc": "gauge",
    "outcome_calibration_error": "gauge", "prediction_log_pruned_rows": "counter",
    "request_stage_duration_seconds": "histogram", "request_rows": "histogram", "requests_refused": "counter",
    "requests_in_flight": "gauge",
}  # fmt: skip
"""Families of other parts of the service, with their types."""

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
KINDS = {name: kind for name, (kind, _) in FAMILIES.items()} | PLANNED | SOMETIMES
SERIES = {"up"} | PROCESS | {name + suffix for name, kind in KINDS.items() for suffix in SUFFIXES[kind]}
