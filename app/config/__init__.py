"""Settings: all of them, their values from environment variables, and which cannot be together."""
