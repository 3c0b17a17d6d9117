"""Madrone's service: HTTP, MLflow and telemetry around the numerics in `kernels`."""
