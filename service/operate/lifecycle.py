"""Running the service: in this process, or in several that share a port."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

import prometheus_client as prometheus

from catalog.open_store import open_store
from service.operate import logs, metrics
from service.operate.logs import log
from service.operate.tracing import tracing
from service.rpc.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.history import History
    from service.settings import Settings

MOST_FILES = 1 << 16


@dataclass(frozen=True)
class Ready:
    """That calls are answered: where, and from which release of how many songs, if there is one."""

    address: str
    release: str | None
    songs: int
    metrics_port: int | None = None


def run(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once calls are answered.

    Raises `SettingsError`, `NoReleaseError`, `CorruptReleaseError`, `EngineError`, `BusyError` or
    `UnavailableError`.
    """
    logs.configure(settings.log_level, settings.log_format)
    if settings.keys_file and not settings.tls_cert and not _is_loopback(settings.host):
        log.warning("keys travel in clear without TLS: give tls_cert and tls_key")
    if settings.workers > 1:
        from service.operate.supervisor import supervise

        asyncio.run(supervise(settings, ready))
    else:
        asyncio.run(_serve_alone(settings, ready))


async def _serve_alone(settings: Settings, ready: Callable[[Ready], None]) -> None:
    registry = prometheus.CollectorRegistry()
    measured = metrics.Metrics(registry)
    prometheus.ProcessCollector(registry=registry)
    prometheus.PlatformCollector(registry=registry)
    with ExitStack() as ending:
        port = None
        if settings.metrics_port is not None:
            endpoint = metrics.endpoint(settings.metrics_host, settings.metrics_port, registry)
            ending.callback(endpoint.server_close)
            ending.callback(endpoint.shutdown)
            port = endpoint.server_port
        await serve(settings, measured, lambda one: ready(replace_port(one, port)), stop_signal())


def replace_port(ready: Ready, port: int | None) -> Ready:
    """The same, with the port of the metrics endpoint."""
    return Ready(ready.address, ready.release, ready.songs, port)


async def serve(
    settings: Settings,
    measured: metrics.Metrics,
    ready: Callable[[Ready], None],
    stopped: asyncio.Event,
) -> None:
    """Serve in this process until `stopped` is set."""
    _allow_many_connections()
    home = open_store(settings.home, settings.qdrant())
    with tracing(settings.otlp_endpoint) as tracer:
        history = _history(settings)
        server = Server(home, settings, measured, tracer, history)
        await server.start()
        manifest = server.release.manifest if server.release else None
        try:
            with sparing_what_stays():
                ready(
                    Ready(
                        server.address,
                        manifest.release if manifest else None,
                        manifest.counts.songs if manifest else 0,
                    )
                )
                await stopped.wait()
        finally:
            await server.stop()
        if history:
            history.close()
    home.close()


@contextmanager
def sparing_what_stays() -> Iterator[None]:
    """Spare the garbage collector what there is now, as nearly all of it stays.

    To look through it takes tens of milliseconds, in which calls wait.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _history(settings: Settings) -> History | None:
    qdrant = settings.qdrant()
    if not settings.history or qdrant is None:
        return None
    from service.history import History

    return History(qdrant, settings.history_plays, settings.history_days, settings.history_replicas)


def stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set from now on.

    After the first of them, SIGINT ends the process at once, whatever it does then.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(stopped.set)

    # A handler of the loop would wait for it, while a release is loaded for example.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    return stopped


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
