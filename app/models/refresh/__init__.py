"""Refreshes: when the registry is asked, what comes of it, and how a version gets into service."""
