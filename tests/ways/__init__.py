"""Every usual way to log a LightGBM model with MLflow."""
