"""The service's log: one line an event on standard error, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from catalog.terminal import json_text, one_line, sanitise

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

log: Any = structlog.stdlib.get_logger("nextsong.service")
"""`log.info("event", key=value)`; the standard library's logger of this name stands behind it."""

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


def _no_caller_left(record: logging.LogRecord) -> bool:
    # gRPC calls it an error, with a traceback, that a caller did not wait for its answer.
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


def _write_out_controls(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Write control characters out, for no log line to be forged; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = sanitise(value) if name in {"exception", "stack"} else one_line(value)
    return event


def configure(level: str, form: str) -> None:
    """Write what is at least as urgent as `level`, ours and the libraries', as `form` says."""
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
                _write_out_controls,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries tell much, and may tell secrets
    logging.getLogger("grpc._cython.cygrpc").addFilter(_no_caller_left)
    logging.getLogger("nextsong").setLevel(level.upper())
