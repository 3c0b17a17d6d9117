"""Logs as JSON lines on standard error, each with the id of its request."""

import logging
import sys
from contextvars import ContextVar
from typing import Any, TextIO

from pythonjsonlogger.msgspec import MsgspecFormatter

from app.telemetry.tracing.current import current_trace

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that the current task is answering."""

QUIET_LOGGERS = ("alembic", "mlflow", "httpx", "httpcore", "numba", "urllib3", "matplotlib", "git", "watchfiles")
"""Libraries whose INFO and DEBUG lines are dropped, since they are not about the service."""


class JsonFormatter(MsgspecFormatter):
    """Formats a record as one JSON object: time, level, logger, message, request id if any, and the extras."""

    def __init__(self) -> None:
        super().__init__(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )

    def format(self, record: logging.LogRecord) -> str:
        """Line of a record. A message that is already JSON lines (`is_json`) is unchanged."""
        return record.getMessage() if getattr(record, "is_json", False) else super().format(record)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Add the ids of the request and its trace."""
        super().add_fields(log_data, record, message_dict)
        if identifier := request_id.get():
            log_data["request_id"] = identifier
        if (trace := current_trace.get()) is not None:
            log_data |= {"trace_id": trace.trace_id, "span_id": trace.span_id}


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current standard error, which a status line on a terminal replaces while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)  # StreamHandler's would keep the first standard error

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Standard error."""
        return sys.stderr


def logging_config(level: str) -> dict[str, Any]:
    """Configuration for `logging.config.dictConfig`, for the service and for Granian.

    Args:
        level: Name of the lowest level to log.
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
