"""Log lines: one JSON object a line on stderr, values bounded, nothing secret (no headers, no tokens)."""

from __future__ import annotations

import logging
import sys

import structlog

from cdmo.errors import BadSettings

LEVELS = ("debug", "info", "warning", "error")
LONGEST_VALUE = 2048  # characters; what comes from outside may be of any length


def configure_logging(process: str, level: str) -> None:
    """Set up structlog for this process. `level` is one of LEVELS. Raises BadSettings."""
    if level.lower() not in LEVELS:
        raise BadSettings(f"there is no log level {level[:32]!r}", hint=f"choose one of {', '.join(LEVELS)}")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bounded,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def _bounded(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            event[key] = value[:LONGEST_VALUE] + "…"
    return event
