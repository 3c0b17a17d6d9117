"""Outcomes of predictions: the actual values that callers report later, and the error of each model version."""
