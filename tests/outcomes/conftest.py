"""Fixtures: databases for the outcomes, those of the prediction log."""

from tests.prediction_log.conftest import absent, database

__all__ = ["absent", "database"]
