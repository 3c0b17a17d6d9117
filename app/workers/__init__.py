"""Several server processes that are one service: one of them leads, and asks, writes and reports for all."""
