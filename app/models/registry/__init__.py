"""Access to an MLflow Model Registry from a separate process, and the embedded registry of a fresh machine."""
