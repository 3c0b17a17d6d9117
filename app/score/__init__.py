"""Scoring of files and of Arrow record batches by a model, without a service."""
