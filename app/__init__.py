"""Madrone's service: HTTP, MLflow and telemetry around the numerics in `kernels`."""

__version__ = "1.0.0"
