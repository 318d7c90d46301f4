"""One of several serving processes: `python -m service.worker`, started by `service.workers`.

Its argument is its place in the family, the first line of standard input its settings. It answers
with one line of JSON, that it is ready or why it is not, and ends on SIGTERM, or when standard
input does because its parent has died.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client as prometheus

from catalog.errors import NextsongError
from service import logs, metrics, running, settings

if TYPE_CHECKING:
    from service.running import Ready


async def _serve(given: settings.Settings, place: int) -> None:
    stopped = running.stop_signal()
    asyncio.get_running_loop().add_reader(sys.stdin, _parent_has_died, stopped)
    own_file = metrics.release_file(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), place)
    measured = metrics.Metrics(prometheus.CollectorRegistry(), own_file)
    await running.serve(given, measured, _say_ready, stopped)


def _parent_has_died(stopped: asyncio.Event) -> None:
    if stopped.is_set():  # it was ended at once, in the middle of a drain
        os._exit(1)
    asyncio.get_running_loop().remove_reader(sys.stdin)
    stopped.set()


def _say_ready(ready: Ready) -> None:
    _say({"ready": asdict(ready)})


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent gets it too
    os.set_blocking(sys.stdin.fileno(), True)
    given = settings.from_json(sys.stdin.readline())
    logs.configure(given.log_level, given.log_format)
    place = int(sys.argv[1])
    metrics.share(place)
    try:
        asyncio.run(_serve(given, place))
    except NextsongError as error:
        _say({"error": str(error), "kind": type(error).__name__})
        sys.exit(1)


if __name__ == "__main__":
    main()
