"""Logs as JSON lines on standard error, each with the id of the request that it belongs to."""

import logging
import sys
from contextvars import ContextVar
from typing import Any, TextIO

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


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what standard error is now: while a terminal has a status line, that is what goes round it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)  # a stream handler's own would keep what standard error is at first

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Standard error."""
        return sys.stderr


def logging_config(level: str) -> dict[str, Any]:
    """Configuration for `logging.config.dictConfig`, for the service and for Granian alike.

    Args:
        level: Name of the least severe level to log.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"()": StderrHandler, "formatter": "json"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            **{name: {"level": max(level, "WARNING", key=logging.getLevelName)} for name in QUIET_LOGGERS},
            "_granian": {"level": level, "handlers": [], "propagate": True},
            "granian.access": {"level": level, "handlers": [], "propagate": True},
        },
    }
