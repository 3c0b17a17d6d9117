"""The life of a model: looked up, fetched, read, checked, and put into service."""
