"""Calibrates a model on rows that it was not fitted on: intervals, thresholds, reliability, a reference for drift."""
