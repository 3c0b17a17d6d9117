"""Fixtures: the second registered model, which these tests share with those of the routes."""

from tests.routes.conftest import churn, churn_settings, referring

__all__ = ["churn", "churn_settings", "referring"]
