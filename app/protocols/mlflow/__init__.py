"""MLflow's scoring server: `/invocations`, `/ping` and `/version`."""
