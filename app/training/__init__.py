"""Trains the California Housing model, and holds the one that a fresh machine serves."""
