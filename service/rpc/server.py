"""The gRPC server: `Recommender`, health and reflection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from catalog.errors import MissingExtraError
from service.operate.current_release import CurrentRelease
from service.operate.logs import log
from service.operate.watcher import ReleaseWatcher
from service.rpc.health import SERVICE, Health
from service.rpc.interceptors.admission import Admission, AdmitCalls
from service.rpc.interceptors.authentication import RequireKey
from service.rpc.interceptors.deadline import LimitTime
from service.rpc.interceptors.errors import reject_unreadable_request, report_errors
from service.rpc.interceptors.keys import Keys
from service.rpc.interceptors.log import log_call
from service.rpc.interceptors.metrics import MeasureCalls
from service.rpc.interceptors.tracing import TraceCalls
from service.rpc.port import build_busy_error, format_host, require_free_port
from service.rpc.recommender import Recommender, RecommenderHandler
from service.rpc.tls import load_credentials

if TYPE_CHECKING:
    from catalog.store import OpenRelease, ReleaseStore
    from service.history import History
    from service.http.server import HttpServer
    from service.operate.metrics import Metrics
    from service.operate.tracing import Tracer
    from service.rpc.call import Interceptor
    from service.settings import Settings


class Server:
    """The gRPC server of a process, at `address` (host:port), and its HTTP server if it has one.

    The constructor binds the address and opens the current release. Raises `SettingsError`,
    `BusyError`, and the errors of `ReleaseWatcher.open_first`.
    """

    def __init__(
        self,
        store: ReleaseStore,
        settings: Settings,
        metrics: Metrics,
        tracer: Tracer | None = None,
        history: History | None = None,
    ) -> None:
        self._settings = settings
        self._history = history
        keys = Keys(settings.keys_file) if settings.keys_file else None
        credentials = load_credentials(settings)
        self._server = grpc.aio.server(
            options=_channel_options(settings),
            interceptors=[RequireKey(keys, metrics)] if keys else [],
        )
        self._health = Health(self._server)
        admission = Admission(settings.max_concurrency)
        self._current = CurrentRelease(metrics, admission.stall)
        self._watcher = ReleaseWatcher(store, self._current, settings, metrics, self._health)
        recommender = Recommender(self._current, history, self._watcher.wake)
        interceptors = build_interceptors(settings, admission, metrics, tracer)
        self._server.add_generic_rpc_handlers((RecommenderHandler(recommender, interceptors),))
        reflection.enable_server_reflection(
            [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher.open_first()
        self._http: HttpServer | None = None
        try:
            self.port = self._listen(credentials)
            if settings.http_port is not None:
                self._http = self._open_http()
        except Exception:
            self._current.replace(None)
            raise
        self.address = f"{format_host(settings.host)}:{self.port}"

    @property
    def http_port(self) -> int | None:
        """The port of the HTTP server, or None if there is none."""
        return self._http.port if self._http else None

    @property
    def release(self) -> OpenRelease | None:
        """The current release, or None if there is none."""
        return self._current.release

    async def start(self) -> None:
        """Begin to answer calls and to follow the current release."""
        await self._health.start()
        await self._health.set_serving(self.release is not None)
        await self._server.start()
        if self._http:
            await self._http.start()
        self._tasks.append(asyncio.create_task(self._watcher.follow()))
        if self._history:
            self._tasks.append(asyncio.create_task(self._history.purge_regularly()))

    async def stop(self) -> None:
        """Stop the server and end all its tasks.

        The health changes to NOT_SERVING at once. New calls are still answered for `drain` seconds.
        After that, calls in progress have `grace` seconds to finish.
        """
        drain, grace = self._settings.drain, self._settings.grace
        log.info("draining: NOT_SERVING, and calls are still answered", drain_s=drain)
        for task in self._tasks:
            task.cancel()
        await self._health.set_serving(False)
        if drain:
            await asyncio.sleep(drain)
        log.info("ending: new calls are refused", grace_s=grace)
        if self._http:
            await self._http.stop()
        await self._server.stop(grace)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._current.replace(None)

    def _listen(self, credentials: grpc.ServerCredentials | None) -> int:
        host, port = self._settings.host, self._settings.port
        address = f"{format_host(host)}:{port}"
        if self._settings.workers == 1:  # with several workers, the parent process holds the port
            require_free_port(host, port)
        try:
            if credentials:
                return self._server.add_secure_port(address, credentials)
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise build_busy_error(host, port) from error

    def _open_http(self) -> HttpServer:
        try:
            from service.http.server import HttpServer
        except ImportError as error:
            raise MissingExtraError("HTTP", "http") from error
        http = HttpServer(self._settings)
        self._server.add_insecure_port(http.address)
        return http


def build_interceptors(
    settings: Settings, admission: Admission, metrics: Metrics, tracer: Tracer | None
) -> list[Interceptor]:
    """Return the interceptors of the `Recommender` methods, the outermost first."""
    return [
        log_call,
        *([TraceCalls(tracer)] if tracer else []),
        MeasureCalls(metrics),
        report_errors,
        reject_unreadable_request,
        LimitTime(settings.call_timeout),
        AdmitCalls(admission),
    ]


def _channel_options(settings: Settings) -> list[tuple[str, int]]:
    options = [
        # The processes of one service share a port. Two services on one port are an error.
        ("grpc.so_reuseport", int(settings.workers > 1)),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.server_handshake_timeout_ms", 20_000),
        # Limit the number of responses buffered for a caller that does not read them.
        ("grpc.max_concurrent_streams", 1_000),
        # Use pings to detect callers that have disappeared, and allow callers to send pings too.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if settings.max_connection_age:
        # Clients must reconnect from time to time, so that they use processes that were added
        # later.
        options += [
            ("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000)),
            ("grpc.max_connection_age_grace_ms", round((settings.call_timeout + 1) * 1000)),
        ]
    return options
