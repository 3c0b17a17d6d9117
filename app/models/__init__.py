"""The life of a model: found in the registry, fetched, read, checked, put in service."""
