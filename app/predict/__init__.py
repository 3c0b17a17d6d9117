"""The hot path of prediction requests, in front of Litestar: from ASGI messages to an answer."""
