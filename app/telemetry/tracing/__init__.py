"""Traces of requests and model loads, in the form of OpenTelemetry."""
