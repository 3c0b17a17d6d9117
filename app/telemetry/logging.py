"""Logs as JSON lines on standard error, each with the id of the request that it belongs to."""

import logging
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.msgspec import MsgspecFormatter

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that the current task answers."""

QUIET_LOGGERS = ("alembic", "mlflow", "httpx", "httpcore", "numba", "urllib3", "matplotlib", "git", "watchfiles")
"""Libraries whose INFO and DEBUG lines say nothing about the service."""


class JsonFormatter(MsgspecFormatter):
    """One JSON object a line: time, level, logger, message, request id where there is one, and the record's extras."""

    def __init__(self) -> None:
        super().__init__(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's line; one whose message is JSON lines already passes as it is."""
        return record.getMessage() if getattr(record, "is_json", False) else super().format(record)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put the request's id into the line."""
        super().add_fields(log_data, record, message_dict)
        if identifier := request_id.get():
            log_data["request_id"] = identifier


def logging_config(level: str) -> dict[str, Any]:
    """Configuration for `logging.config.dictConfig`, for the service and for Granian alike.

    Args:
        level: Name of the least severe level to log.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "json"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            **{name: {"level": max(level, "WARNING", key=logging.getLevelName)} for name in QUIET_LOGGERS},
            "_granian": {"level": level, "handlers": [], "propagate": True},
            "granian.access": {"level": level, "handlers": [], "propagate": True},
        },
    }
