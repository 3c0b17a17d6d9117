"""What the service tells of itself: metrics, logs, hardware readings, and the log of predictions."""
