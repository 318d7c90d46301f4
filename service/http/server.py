"""The HTTP server, which runs in the event loop of the gRPC server."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import grpc
import uvicorn

from service.http.gateway import Gateway
from service.rpc.port import listen_on_port
from service.rpc.tls import build_ssl_context

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from service.settings import Settings

IDLE_S = 60  # seconds after which an idle connection is closed
START_POLL_S = 0.01  # seconds between two checks that the server has started
EXTRA_CONNECTIONS = 1_000  # connections beyond `max_concurrency`; an idle connection counts, too


class _Uvicorn(uvicorn.Server):
    """A server that does not handle signals, because the service handles them."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context manager that does nothing."""
        return nullcontext()


class HttpServer:
    """Answers HTTP requests at `settings.http_port`, by calls to a gRPC server.

    `address` is the address of a Unix socket at which the gRPC server must listen. The constructor
    binds the port. Raises `BusyError`, and `SettingsError` if the certificates cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.http_port is not None
        self._settings = settings
        self._ssl_context = build_ssl_context(settings)
        self._socket = listen_on_port(
            settings.host, settings.http_port, is_shared=settings.workers > 1
        )
        self.port = int(self._socket.getsockname()[1])
        self._folder = TemporaryDirectory(prefix="nextsong-")
        self.address = f"unix:{self._folder.name}/grpc.sock"

    async def start(self) -> None:
        """Begin to answer requests. The gRPC server must have been started."""
        settings = self._settings
        self._channel = grpc.aio.insecure_channel(
            self.address, options=[("grpc.max_receive_message_length", -1)]
        )
        config = uvicorn.Config(
            Gateway(self._channel, settings).build_app(),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=round(settings.grace) or 1,
            limit_concurrency=settings.max_concurrency + EXTRA_CONNECTIONS,
            ssl_context_factory=(lambda *_: context) if (context := self._ssl_context) else None,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            await asyncio.sleep(START_POLL_S)
            if self._task.done():
                await self._task

    async def stop(self) -> None:
        """Refuse new requests, and give requests in progress `grace` seconds to finish."""
        self._server.should_exit = True
        await self._task
        await self._channel.close()
        self.close()

    def close(self) -> None:
        """Release the port, and remove the Unix socket."""
        self._socket.close()
        self._folder.cleanup()
