"""Protocols of other model servers: each is a reader, a writer and a thin route over the same model and policy."""
