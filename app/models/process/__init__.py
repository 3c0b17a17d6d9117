"""The model process, which calls MLflow and LightGBM, and how the service asks it."""
