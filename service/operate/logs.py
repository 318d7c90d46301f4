"""The log of the service: one line per event on standard error, as text or JSON."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from catalog.console.terminal import json_text, one_line, sanitise

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

log: Any = structlog.stdlib.get_logger("nextsong.service")
"""The logger of the service, which writes through the standard library's logging.

Use it as `log.info("event", key=value)`.
"""

_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)


def _is_not_disconnect(record: logging.LogRecord) -> bool:
    # gRPC logs this error, with a traceback, whenever a caller disconnects before the response.
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


def _escape_controls(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, so that no log line can be forged.

    Tracebacks keep their line breaks.
    """
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = sanitise(value) if name in {"exception", "stack"} else one_line(value)
    return event


def configure(level: str, form: str) -> None:
    """Log events of the service at `level` or above, and warnings of libraries.

    `form` is `console` or `json`.
    """
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=json_text)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.processors.format_exc_info],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _escape_controls,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries may reveal secrets at lower levels
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_disconnect)
    logging.getLogger("nextsong").setLevel(level.upper())
