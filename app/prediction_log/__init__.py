"""The log of predictions: a row for each prediction, written to a database beside the requests."""
