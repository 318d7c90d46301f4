"""Serve in this process until a signal arrives."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import stamina

from catalog.open_store import open_store
from service.operate.tracing import Tracer
from service.rpc.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.history import History
    from service.operate.metrics import Metrics
    from service.settings import Settings

MAX_OPEN_FILES = 1 << 16  # maximum number of file descriptors; each connection needs one


@dataclass(frozen=True)
class Ready:
    """The state of a service that has begun to answer calls.

    - `release`: id of the release; None if there is none.
    - `songs`: number of songs in the release; 0 if there is none.
    - `metrics_port`, `http_port`: None if metrics, or HTTP requests, are not served.
    """

    address: str
    release: str | None
    songs: int
    metrics_port: int | None = None
    http_port: int | None = None


async def serve(
    settings: Settings,
    metrics: Metrics,
    ready: Callable[[Ready], None],
    stopped: asyncio.Event,
) -> None:
    """Serve in this process until `stopped` is set. `ready` is called once calls are answered.

    Raises the errors of `Server`, and those of opening the store.
    """
    stamina.instrumentation.set_on_retry_hooks(())  # do not log the retries of requests to Qdrant
    _raise_open_files_limit()
    history = _open_history(settings)
    tracer = Tracer(settings.otlp_endpoint) if settings.otlp_endpoint else None
    with (
        closing(open_store(settings.home, settings.qdrant())) as store,
        closing(tracer) if tracer else nullcontext(),
        closing(history) if history else nullcontext(),
    ):
        server = Server(store, settings, metrics, tracer, history)
        await server.start()
        manifest = server.release.manifest if server.release else None
        try:
            with freeze_garbage_collector():
                ready(
                    Ready(
                        server.address,
                        manifest.release if manifest else None,
                        manifest.counts.songs if manifest else 0,
                        http_port=server.http_port,
                    )
                )
                await stopped.wait()
        finally:
            await server.stop()


@contextmanager
def freeze_garbage_collector() -> Iterator[None]:
    """Exempt all existing objects from garbage collection inside this block.

    Nearly all of these objects live until the process ends, and each collection that examines them
    takes tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _open_history(settings: Settings) -> History | None:
    qdrant = settings.qdrant()
    if not settings.history or qdrant is None:
        return None
    from service.history import History

    return History(qdrant, settings.history_plays, settings.history_days, settings.history_replicas)


def catch_stop_signals() -> asyncio.Event:
    """Return an event that is set by SIGTERM and SIGINT from now on.

    After the first of these signals, a SIGINT ends the process at once.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(stopped.set)

    # Not `loop.add_signal_handler`: its handlers would run late while the event loop is blocked,
    # for example by loading a release.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    return stopped


def _raise_open_files_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
