"""Several serving processes on one port, started anew where one ends before its time.

Each is spawned, opens the release for itself and listens with SO_REUSEPORT: the system deals out
connections. The parent holds the port and answers for the metrics of all.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client as prometheus
from prometheus_client import multiprocess

from catalog import errors
from catalog.files import storage_errors
from service.operate import metrics
from service.operate.lifecycle import replace_port, stop_signal
from service.operate.logs import log
from service.operate.worker import from_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.operate.lifecycle import Ready
    from service.settings import Settings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
SOUND_AFTER_S = 60.0
"""A process that lasted so long is started anew without a pause."""

EXTRA_S = 5.0
"""What a process may take beyond drain and grace before it is killed."""

MAX_STRAY_TEXT = 200  # characters of it that are logged


async def supervise(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT.

    Raises what stops the first of them, if that is before all are ready, and `SupervisionError`
    if they cannot be started or watched any more.
    """
    stopped = stop_signal()
    with ExitStack() as ending:
        port = ending.enter_context(_ReservedPort(settings.host, settings.port))
        folder = _folder_of_metrics(settings.workers, ending)
        metrics_port = _endpoint_of_all(settings, folder, ending)
        family = _Family(settings.model_copy(update={"port": port}), folder)
        try:
            first = await family.start(stopped)
            if first is not None:
                ready(replace_port(first, metrics_port))
                await family.watch(stopped)
        finally:
            await family.stop()


def _folder_of_metrics(workers: int, ending: ExitStack) -> str:
    """A folder with room for the metrics of so many processes."""
    place = Path(tempfile.gettempdir())
    with storage_errors(place):
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="nextsong-metrics-"))
    for number in range(workers):
        metrics.reserve(Path(folder), number)
    return folder


def _endpoint_of_all(settings: Settings, folder: str, ending: ExitStack) -> int | None:
    if settings.metrics_port is None:
        return None
    registry = prometheus.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    registry.register(metrics.ReleasesInUse(partial(metrics.releases_in, Path(folder))))
    endpoint = metrics.endpoint(settings.metrics_host, settings.metrics_port, registry)
    ending.callback(endpoint.server_close)
    ending.callback(endpoint.shutdown)
    return int(endpoint.server_port)


class _Family:
    def __init__(self, settings: Settings, folder: str) -> None:
        self._settings = settings
        self._folder = folder
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self, stopped: asyncio.Event) -> Ready | None:
        """Wait until all processes are ready; return None if `stopped` is set before.

        Raises what keeps the first of them from it, or `SupervisionError`.
        """
        loop = asyncio.get_running_loop()
        firsts: list[asyncio.Future[Ready]] = [
            loop.create_future() for _ in range(self._settings.workers)
        ]
        for number, first in enumerate(firsts):
            self._keepers.append(asyncio.create_task(self._keep(number, first)))
        all_ready = asyncio.create_task(asyncio.wait(firsts))
        try:
            await self._until(stopped, all_ready)
        finally:
            all_ready.cancel()
        return firsts[0].result() if all_ready.done() else None

    async def watch(self, stopped: asyncio.Event) -> None:
        """Wait until `stopped` is set. Raises `SupervisionError` if supervision fails before."""
        await self._until(stopped)

    async def stop(self) -> None:
        """End all processes, those that take too long by force."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _until(self, stopped: asyncio.Event, *or_done: asyncio.Future[Any]) -> None:
        """Wait for any of these. Raises what ended a keeper: none ends without an error."""
        told = asyncio.create_task(stopped.wait())
        try:
            awaited = [told, *or_done, *self._keepers]
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()

    async def _keep(self, number: int, first: asyncio.Future[Ready]) -> None:
        try:
            await self._keep_running(number, first)
        except errors.NextsongError:
            raise
        except Exception as error:
            log.error("the supervision of a serving process failed", exc_info=True)
            raise errors.SupervisionError(
                f"the supervision of the serving processes failed: {error!r}"
            ) from error

    async def _keep_running(self, number: int, first: asyncio.Future[Ready]) -> None:
        """Keep one process running; the one that replaces it continues its counts.

        Raises why the first one cannot start; after that, whatever keeps one from starting is
        logged, and another is started after a pause.
        """
        pause = FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            try:
                await self._run(number, first)
            except errors.NextsongError as error:
                if not first.done():
                    raise
                log.error("a process could not start", reason=str(error))
            with suppress(errors.StorageError):  # its files exist and have their full size
                metrics.reserve(Path(self._folder), number)
            lasted = time.monotonic() - begun
            pause = FIRST_PAUSE_S if lasted > SOUND_AFTER_S else min(pause * 2, LONGEST_PAUSE_S)
            await asyncio.sleep(pause / 2)

    async def _run(self, number: int, first: asyncio.Future[Ready]) -> None:
        """Run one process until it ends; when cancelled, end it. Raises why it cannot serve."""
        process = await self._spawn(number)
        try:
            ready = await _next_answer(process)
            if isinstance(ready, errors.NextsongError):
                raise ready
            if ready is None:
                await _wait(process)
                raise errors.SupervisionError(
                    f"a serving process ended with code {process.returncode} before it was ready"
                )
            if not first.done():
                first.set_result(ready)
            last = await _next_answer(process)
            await _wait(process)
            log.error(
                "a process ended before its time",
                pid=process.pid,
                exit_code=process.returncode,
                reason=str(last) if last else None,
            )
        finally:
            await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            patience = self._settings.drain + self._settings.grace + EXTRA_S
            await asyncio.wait_for(_wait(process), patience)
        except TimeoutError:
            log.error("a process did not end in time and is killed", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()
            await _wait(process)

    async def _spawn(self, number: int) -> asyncio.subprocess.Process:
        # -P: a `service` or `json` that happens to lie in the working folder is none of ours.
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "service.operate.worker", str(number)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._folder},
            )
        except (OSError, RuntimeError) as error:  # no memory, no process, no thread to watch it
            raise errors.SupervisionError(
                f"a serving process cannot be started: {getattr(error, 'strerror', None) or error}"
            ) from error
        assert process.stdin is not None
        process.stdin.write(self._settings.to_json().encode() + b"\n")
        return process


async def _wait(process: asyncio.subprocess.Process) -> None:
    """Wait until a process has ended; what it still prints is dropped.

    `process.wait()` alone never returns if there is more of that than the reader's buffer holds.
    """
    await process.communicate()


async def _next_answer(
    process: asyncio.subprocess.Process,
) -> Ready | errors.NextsongError | None:
    """The next answer of a serving process, or None once it has closed its standard output.

    Anything else on its standard output is logged.
    """
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than the reader's buffer, which is empty again
            line = b"(a very long line)"
        if not line:
            return None
        answer = from_line(line)
        if answer is not None:
            return answer
        text = line.decode(errors="replace").strip()[:MAX_STRAY_TEXT]
        log.warning("a process printed what is no answer", pid=process.pid, text=text)


class _ReservedPort:
    """Holds a port, which processes may listen on with SO_REUSEPORT; nobody connects to it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host.strip("[]")
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> int:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                # Without SO_REUSEPORT it fails where another family of processes has the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                address = (address[0], probe.getsockname()[1], *address[2:])
            self._socket = socket.socket(family, kind, protocol)
            # What a server before us left in TIME_WAIT must not keep us from its port.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(address)
        except OSError as error:
            self.__exit__()
            raise errors.BusyError(
                f"cannot listen on {self._host}:{self._port}: the port is in use or the address is "
                f"not of this machine; choose another with --port or --host"
            ) from error
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_exception: object) -> None:
        if self._socket:
            self._socket.close()
