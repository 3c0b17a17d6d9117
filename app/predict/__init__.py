"""The way of a prediction request, past Litestar: from the ASGI server's messages to an answer."""
