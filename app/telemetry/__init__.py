"""Observability of the service: metrics, logs, hardware readings, and the log of predictions."""
