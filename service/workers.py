"""Several serving processes on one port, started anew where one ends before its time.

Each is spawned, opens the release for itself and listens with SO_REUSEPORT: the system deals out
connections. The parent holds the port and answers for the metrics of all.
"""

from __future__ import annotations

import asyncio
import json
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
from catalog.storage import storage_errors
from service import metrics
from service.logs import log
from service.running import Ready, replace_port, stop_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.settings import Settings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
SOUND_AFTER_S = 60.0
"""A process that lasted so long is started anew without a pause."""

EXTRA_S = 5.0
"""What a process may take beyond drain and grace before it is killed."""


async def supervise(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT.

    Raises what stops the first of them, if that is before all are ready.
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
                await stopped.wait()
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
        self._alive: set[asyncio.subprocess.Process] = set()
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self, stopped: asyncio.Event) -> Ready | None:
        """Wait until all are ready; None if they are told to end before."""
        firsts: list[asyncio.Future[Ready]] = []
        for place in range(self._settings.workers):
            first = asyncio.get_running_loop().create_future()
            firsts.append(first)
            self._keepers.append(asyncio.create_task(self._keep(place, first)))
        all_ready: asyncio.Future[list[Ready]] = asyncio.gather(*firsts)
        told: asyncio.Future[object] = asyncio.ensure_future(stopped.wait())
        waiting: list[asyncio.Future[Any]] = [all_ready, told]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not all_ready.done():
            all_ready.cancel()
            return None
        return all_ready.result()[0]

    async def stop(self) -> None:
        """Ask all to end, and see to it."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for process in self._alive:
            with suppress(ProcessLookupError):
                process.terminate()
        patience = self._settings.drain + self._settings.grace + EXTRA_S
        ends = [asyncio.create_task(process.wait()) for process in self._alive]
        if ends:
            await asyncio.wait(ends, timeout=patience)
        for process in self._alive:
            if process.returncode is None:
                log.error("a process did not end in time and is killed", pid=process.pid)
                process.kill()
                await process.wait()

    async def _keep(self, place: int, first: asyncio.Future[Ready]) -> None:
        """Keep one process running; another in its place goes on with its counts."""
        pause = FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            process = await self._spawn(place)
            try:
                found = await _ready_of(process)
            except errors.NextsongError as error:
                if not first.done():
                    first.set_exception(error)
                    return
                log.error("a process could not start", reason=str(error))
            else:
                if not first.done():
                    first.set_result(found)
                code = await process.wait()
                log.error("a process ended before its time", pid=process.pid, exit_code=code)
            await process.wait()
            self._alive.discard(process)
            with suppress(errors.StorageError):  # its files are there and have their room
                metrics.reserve(Path(self._folder), place)
            lasted = time.monotonic() - begun
            pause = FIRST_PAUSE_S if lasted > SOUND_AFTER_S else min(pause * 2, LONGEST_PAUSE_S)
            await asyncio.sleep(pause / 2)

    async def _spawn(self, place: int) -> asyncio.subprocess.Process:
        # -P: a `service` or `json` that happens to lie in the working folder is none of ours.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "service.worker", str(place)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._folder},
        )
        self._alive.add(process)
        assert process.stdin is not None
        process.stdin.write(self._settings.to_json().encode() + b"\n")
        return process


async def _ready_of(process: asyncio.subprocess.Process) -> Ready:
    assert process.stdout is not None
    line = await process.stdout.readline()
    message: dict[str, Any] = json.loads(line) if line else {}
    if "ready" in message:
        return Ready(**message["ready"])
    await process.wait()
    kind = getattr(errors, message.get("kind", ""), errors.EngineError)
    raise kind(message.get("error", f"a serving process ended with code {process.returncode}"))


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
