"""One of several serving processes, started by `supervisor`: `python -m service.operate.worker`.

The first line of standard input holds its settings. It prints one JSON message, either that it is
ready or why it cannot serve. It ends on SIGTERM, or when standard input ends because its parent
process has died.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client as prometheus

from catalog import errors
from service import settings as service_settings
from service.operate import logs
from service.operate.metrics import Metrics
from service.operate.process import Ready, serve, stop_signal

if TYPE_CHECKING:
    from typing import TextIO

    from service.settings import Settings


def format_message(message: Ready | errors.NextsongError) -> str:
    """Return a message as the line of JSON that `parse_message` reads."""
    if isinstance(message, Ready):
        return json.dumps({"ready": asdict(message)})
    return json.dumps({"error": type(message).__name__, "args": message.args}, default=str)


def parse_message(line: bytes) -> Ready | errors.NextsongError | None:
    """Return the message in a line, or None if the line is not a message."""
    try:
        fields = json.loads(line)
        if "ready" in fields:
            return Ready(**fields["ready"])
        error = getattr(errors, fields["error"])(*fields["args"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return error if isinstance(error, errors.NextsongError) else None


async def _serve(settings: Settings, output: TextIO) -> None:
    stopped = stop_signal()
    asyncio.get_running_loop().add_reader(sys.stdin, _end_without_parent, stopped)
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    metrics = Metrics(prometheus.CollectorRegistry(), folder)
    await serve(settings, metrics, partial(_send, output), stopped)


def _end_without_parent(stopped: asyncio.Event) -> None:
    if stopped.is_set():  # the parent was killed during the drain
        os._exit(1)
    asyncio.get_running_loop().remove_reader(sys.stdin)
    stopped.set()


def _send(output: TextIO, message: Ready | errors.NextsongError) -> None:
    output.write(f"{format_message(message)}\n")
    output.flush()


def _take_standard_output() -> TextIO:
    """Return a copy of standard output, and redirect the original to standard error.

    So nothing that a library prints mixes with the messages.
    """
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


def main() -> None:
    """Serve until a signal or the end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which decides
    os.set_blocking(sys.stdin.fileno(), True)
    with _take_standard_output() as output:
        settings = service_settings.from_json(sys.stdin.readline())
        logs.configure(settings.log_level, settings.log_format)
        try:
            asyncio.run(_serve(settings, output))
        except errors.NextsongError as error:
            _send(output, error)
            sys.exit(1)


if __name__ == "__main__":
    main()
