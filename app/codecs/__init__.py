"""Bytes to batches and back, a module a format."""
