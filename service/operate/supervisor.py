"""Several serving processes on one port, each replaced when it ends unexpectedly.

Each process opens the release itself and listens with SO_REUSEPORT, so the kernel distributes
connections. The parent process holds the port and serves the sum of all metrics.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client as prometheus

from catalog.errors import NextsongError, StorageError, SupervisionError
from catalog.files import storage_errors
from service.operate import metrics
from service.operate.logs import log
from service.operate.process import catch_stop_signals
from service.rpc.port import reserve_port

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection

    from service.operate.process import Ready
    from service.settings import Settings

MIN_PAUSE_S, MAX_PAUSE_S = 0.25, 15.0
"""Seconds to wait before a process is replaced. The wait doubles with each failure in a row."""

STABLE_AFTER_S = 60.0
"""A process that ran for more seconds is replaced after the minimum wait when it ends."""

EXTRA_S = 5.0
"""Seconds after the drain and grace periods at which a process that still runs is killed."""


async def supervise(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT.

    `ready` is called once all processes answer calls. Raises the error that prevents the first
    start of a process, and `SupervisionError` if the processes can no longer be supervised.
    """
    stop = catch_stop_signals()
    registry = prometheus.CollectorRegistry()
    with (
        reserve_port(settings.host, settings.port) as port,
        _reserve_http_port(settings) as http_port,
        _metrics_folder() as folder,
        metrics.serve_metrics(
            settings.metrics_host, settings.metrics_port, registry
        ) as metrics_port,
    ):
        registry.register(metrics.FolderCollector(folder))
        settings = settings.model_copy(update={"port": port, "http_port": http_port})
        workers = [_Worker(settings, folder) for _ in range(settings.workers)]

        async def announce() -> None:
            first, *_ = await asyncio.gather(*(worker.ready for worker in workers))
            ready(replace(first, metrics_port=metrics_port))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(worker.keep_running()) for worker in workers]
                tasks.append(group.create_task(announce()))
                await stop.wait()
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as failures:
            raise _to_own_error(failures.exceptions[0]) from None


def _reserve_http_port(settings: Settings) -> AbstractContextManager[int | None]:
    if settings.http_port is None:
        return nullcontext()
    return reserve_port(settings.host, settings.http_port)


def _to_own_error(error: Exception) -> Exception:
    """Return the exception to raise for the failure of a task.

    Unexpected exceptions are logged and replaced by a `SupervisionError`.
    """
    # A pipe breaks if the reader of standard output ends before the service.
    if isinstance(error, NextsongError | BrokenPipeError):
        return error
    log.error("the supervision of the serving processes failed", exc_info=error)
    return SupervisionError(f"the supervision of the serving processes failed: {error!r}")


@contextmanager
def _metrics_folder() -> Iterator[Path]:
    with storage_errors(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="nextsong-metrics-")
    with folder as name:
        yield Path(name)


class _Worker:
    """A serving process, and the processes that replace it.

    `ready` is set when the first process is ready.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._folder = folder
        self._pid: int | None = None  # id of the newest process

    async def keep_running(self) -> None:
        """Run a process, and replace it after a pause whenever it ends.

        If the first process cannot start, the error is raised. If a later process cannot start, the
        error is logged.
        """
        pause_s = MIN_PAUSE_S
        while True:
            start = time.monotonic()
            try:
                await self._run()
            except NextsongError as error:
                if not self.ready.done():
                    raise
                log.error("a process could not start", reason=str(error))
            is_stable = time.monotonic() - start > STABLE_AFTER_S
            pause_s = MIN_PAUSE_S if is_stable else min(2 * pause_s, MAX_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _run(self) -> None:
        """Run one process until it ends. If this task is cancelled, end the process.

        Raises the error that prevents the process from starting.
        """
        process, connection = await _start(self._folder)
        with connection:
            try:
                metrics.reserve_files(self._folder, process.pid, predecessor=self._pid)
                self._pid = process.pid
                await self._watch(process, connection)
            finally:
                await self._end(process)
                if self._pid == process.pid:
                    with suppress(StorageError):  # a problem with metrics must not end the service
                        metrics.clear_files(self._folder, process.pid)

    async def _watch(self, process: Process, connection: Connection) -> None:
        with suppress(OSError):  # the process has already ended, so `_receive` returns None
            connection.send(self._settings.model_dump())
        message = await _receive(connection)
        if isinstance(message, NextsongError):
            raise message
        if message is None:
            raise SupervisionError(
                f"a serving process ended with code {await process.wait()} before it was ready"
            )
        if not self.ready.done():
            self.ready.set_result(message)
        failure = await _receive(connection)
        log.error(
            "a process ended unexpectedly",
            pid=process.pid,
            exit_code=await process.wait(),
            reason=str(failure) if failure else None,
        )

    async def _end(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._settings.drain + self._settings.grace + EXTRA_S):
                await process.wait()
        except TimeoutError:
            log.error("a process did not end in time and is killed", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _start(folder: Path) -> tuple[Process, Connection]:
    """Start a process, and return it with a connection to it. Raises `SupervisionError`."""
    connection, other_end = Pipe()
    with other_end:
        try:
            process = await asyncio.create_subprocess_exec(
                # -P prevents imports from the working folder, such as a module `service` or `json`.
                *(sys.executable, "-P", "-m", "service.operate.worker", str(other_end.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # redirect standard output to standard error, which is the log
                pass_fds=[other_end.fileno()],
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            )
        except (OSError, RuntimeError) as error:  # for example, too little memory
            connection.close()
            raise SupervisionError(
                f"a serving process cannot be started: {getattr(error, 'strerror', None) or error}"
            ) from error
    return process, connection


async def _receive(connection: Connection) -> Any:
    """Return the next message from a process, or None once it has closed the connection."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
        return connection.recv()
    except (EOFError, OSError):
        return None
    finally:
        loop.remove_reader(connection)
