"""One of several serving processes: `python -m service.operate.worker FD`, run by `supervisor`.

FD is the file descriptor of a connection to the parent process. The parent sends the settings; this
process answers with `Ready`, or with the error that prevents it from serving. This process ends on
SIGTERM, and when the parent process dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import prometheus_client as prometheus

from catalog.errors import NextsongError
from service.operate import logs
from service.operate.metrics import Metrics
from service.operate.process import catch_stop_signals, serve
from service.settings import Settings


async def _serve(settings: Settings, connection: Connection) -> None:
    stopped = catch_stop_signals()
    loop = asyncio.get_running_loop()

    def end_without_parent() -> None:
        if stopped.is_set():  # the parent process died during the drain
            os._exit(1)
        loop.remove_reader(connection)
        stopped.set()

    # The parent has sent the settings and sends nothing more, so the connection becomes readable
    # only when it is closed.
    loop.add_reader(connection, end_without_parent)
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    metrics = Metrics(prometheus.CollectorRegistry(), folder)
    await serve(settings, metrics, connection.send, stopped)


def main() -> None:
    """Serve until a signal, or until the parent process dies."""
    # Ctrl-C also reaches the parent process, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as connection:
        settings = Settings(**connection.recv())
        logs.configure(settings.log_level, settings.log_format)
        try:
            asyncio.run(_serve(settings, connection))
        except NextsongError as error:
            connection.send(error)
            sys.exit(1)


if __name__ == "__main__":
    main()
