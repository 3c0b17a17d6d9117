"""The MLflow Model Registry, asked from a process of its own; and the embedded one of a fresh machine."""
