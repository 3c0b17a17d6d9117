"""Contributions of features to a forest's scores."""
