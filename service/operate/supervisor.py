"""Several serving processes on one port, each replaced if it ends before its time.

Each process opens the release for itself and listens with SO_REUSEPORT, so the kernel distributes
connections. The parent process holds the port and serves the metrics of all.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client as prometheus

from catalog.errors import NextsongError, StorageError, SupervisionError
from catalog.files import storage_errors
from service.operate import metrics
from service.operate.logs import log
from service.operate.process import stop_signal
from service.operate.worker import parse_message
from service.rpc.port import reserve_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.operate.process import Ready
    from service.settings import Settings

MIN_PAUSE_S, MAX_PAUSE_S = 0.25, 15.0
"""Seconds before a process is replaced; they double with each failure in a row."""

STABLE_AFTER_S = 60.0
"""Lifetime in seconds after which the end of a process counts as its first failure."""

EXTRA_S = 5.0
"""Seconds beyond drain and grace before a process is killed."""

MAX_LOGGED_TEXT = 200  # characters


async def supervise(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT.

    Raises the error that keeps a process from its first start, and `SupervisionError` if the
    processes cannot be started or watched any more.
    """
    stop = stop_signal()
    registry = prometheus.CollectorRegistry()
    with (
        reserve_port(settings.host, settings.port) as port,
        _metrics_folder() as folder,
        metrics.serve_metrics(
            settings.metrics_host, settings.metrics_port, registry
        ) as metrics_port,
    ):
        registry.register(metrics.FolderCollector(folder))
        own = settings.model_copy(update={"port": port})
        workers = [_Worker(own, folder) for _ in range(settings.workers)]
        stopped = asyncio.create_task(stop.wait())
        watched = [asyncio.create_task(worker.keep_running()) for worker in workers]
        all_ready = asyncio.gather(*(worker.ready for worker in workers))
        try:
            await _wait_for_any(watched, stopped, all_ready)
            if all_ready.done():
                ready(replace(all_ready.result()[0], metrics_port=metrics_port))
                await _wait_for_any(watched, stopped)
        finally:
            stopped.cancel()
            all_ready.cancel()
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)


@contextmanager
def _metrics_folder() -> Iterator[Path]:
    with storage_errors(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="nextsong-metrics-")
    with folder as name:
        yield Path(name)


async def _wait_for_any(watched: list[asyncio.Task[None]], *events: asyncio.Future[Any]) -> None:
    """Wait for any event. Raises the error of a task in `watched`, which never end without one."""
    await asyncio.wait([*events, *watched], return_when=asyncio.FIRST_COMPLETED)
    for task in watched:
        if task.done():
            task.result()


class _Worker:
    """A serving process, and the processes that replace it. `ready` is set by the first one."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._folder = folder
        self._pid: int | None = None  # of the newest process

    async def keep_running(self) -> None:
        """Run a process, and replace it after a pause whenever it ends.

        Raises the error that keeps the first process from starting. Later, such an error is logged.
        Raises `SupervisionError` for any error that is not expected.
        """
        pause_s = MIN_PAUSE_S
        try:
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
        except NextsongError:
            raise
        except Exception as error:
            log.exception("the supervision of a serving process failed")
            raise SupervisionError(
                f"the supervision of the serving processes failed: {error!r}"
            ) from error

    async def _run(self) -> None:
        """Run one process until it ends; when cancelled, end it. Raises why it cannot serve."""
        process = await _spawn(self._folder)
        try:
            metrics.reserve_files(self._folder, process.pid, predecessor=self._pid)
            self._pid = process.pid
            await self._watch(process)
        finally:
            await self._end(process)
            if self._pid == process.pid:
                with suppress(StorageError):  # the files have their full size, so this cannot fail
                    metrics.clear_files(self._folder, process.pid)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        process.stdin.write(self._settings.to_json().encode() + b"\n")
        message = await _read_message(process)
        if isinstance(message, NextsongError):
            raise message
        if message is None:
            await _wait(process)
            raise SupervisionError(
                f"a serving process ended with code {process.returncode} before it was ready"
            )
        if not self.ready.done():
            self.ready.set_result(message)
        last_message = await _read_message(process)
        await _wait(process)
        log.error(
            "a process ended before its time",
            pid=process.pid,
            exit_code=process.returncode,
            reason=str(last_message) if last_message else None,
        )

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            limit_s = self._settings.drain + self._settings.grace + EXTRA_S
            await asyncio.wait_for(_wait(process), limit_s)
        except TimeoutError:
            log.error("a process did not end in time and is killed", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()
            await _wait(process)


async def _spawn(folder: Path) -> asyncio.subprocess.Process:
    # -P keeps a module named `service` or `json` in the working folder from being imported.
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "service.operate.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        )
    except (OSError, RuntimeError) as error:  # no memory, no process, no thread to watch it
        raise SupervisionError(
            f"a serving process cannot be started: {getattr(error, 'strerror', None) or error}"
        ) from error


async def _wait(process: asyncio.subprocess.Process) -> None:
    """Wait until a process has ended, and drop its remaining output.

    `process.wait()` alone never returns if the output exceeds the reader's buffer.
    """
    await process.communicate()


async def _read_message(process: asyncio.subprocess.Process) -> Ready | NextsongError | None:
    """Return a process's next message, or None once it has closed its standard output.

    Any other line on its standard output is logged.
    """
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than the reader's buffer, which is empty again
            line = b"(a very long line)"
        if not line:
            return None
        message = parse_message(line)
        if message is not None:
            return message
        text = line.decode(errors="replace").strip()[:MAX_LOGGED_TEXT]
        log.warning("a process printed an unexpected line", pid=process.pid, text=text)
