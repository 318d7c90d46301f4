"""The gRPC server: `Recommender`, health and reflection around the current release of a home."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from catalog.errors import BusyError, NextsongError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service import api
from service.statuses import code_of, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from catalog.release import Home, OpenRelease

log = logging.getLogger("nextsong.service")

SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"].full_name
LOOK_EVERY_S = 1.0
GRACE_S = 5.0

Request = TypeVar("Request")
Response = TypeVar("Response")
Context = grpc.aio.ServicerContext[Any, Any]


class Recommender(recommender_pb2_grpc.RecommenderServicer):
    """Answers from `release`, which may be replaced: a call keeps the one that it began with.

    A replaced release closes itself when its last call has ended.
    """

    def __init__(self, release: OpenRelease) -> None:
        self.release = release

    async def Recommend(  # noqa: N802
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Answer one playlist."""
        return await self._answer(api.recommend, request, context)

    async def SimilarSongs(  # noqa: N802
        self, request: pb.SimilarSongsRequest, context: Context
    ) -> pb.SimilarSongsResponse:
        """Answer with the songs nearest to one."""
        return await self._answer(api.similar_songs, request, context)

    async def SearchSongs(  # noqa: N802
        self, request: pb.SearchSongsRequest, context: Context
    ) -> pb.SearchSongsResponse:
        """Find songs by name."""
        return await self._answer(api.search_songs, request, context)

    async def GetRelease(  # noqa: N802
        self,
        request: pb.GetReleaseRequest,
        context: Context,
    ) -> pb.GetReleaseResponse:
        """Describe the release."""
        return await self._answer(api.get_release, request, context)

    async def _answer(
        self,
        method: Callable[[OpenRelease, Request], Awaitable[Response]],
        request: Request,
        context: Context,
    ) -> Response:
        try:
            return await method(self.release, request)
        except Exception as error:
            # gRPC would send the message of an error that is not ours to the caller.
            ours = error if isinstance(error, NextsongError) else NextsongError(str(error))
            if code_of(ours) is grpc.StatusCode.INTERNAL:
                log.exception("call failed")
            await context.abort_with_status(status_of(ours))
            raise


class Server:
    """A running server; `port` and `address` (host:port) are where it listens."""

    def __init__(self, home: Home, host: str, port: int) -> None:
        self._home = home
        self._recommender = Recommender(home.open())
        # Two servers on one port must be a mistake that is noticed.
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._health = health.aio.HealthServicer()
        recommender_pb2_grpc.add_RecommenderServicer_to_server(self._recommender, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            self._recommender.release.close()
            raise BusyError(
                f"cannot listen on {host}:{port}: the port is in use or the address is not of "
                f"this machine; choose another with --port or --host"
            ) from error
        self.address = f"{host}:{self.port}"
        self._watch: asyncio.Task[None] | None = None

    @property
    def release(self) -> OpenRelease:
        """The release that answers now."""
        return self._recommender.release

    async def start(self) -> None:
        """Begin to answer calls, and to look for new releases."""
        await self._server.start()
        await self._say_health(health_pb2.HealthCheckResponse.SERVING)
        self._watch = asyncio.create_task(self._follow_releases())

    async def stop(self) -> None:
        """Say NOT_SERVING, let calls under way finish for up to `GRACE_S` seconds, and end."""
        if self._watch:
            self._watch.cancel()
        await self._say_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.stop(GRACE_S)

    async def _say_health(self, status: int) -> None:
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def _follow_releases(self) -> None:
        refused = complaint = None
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            current = None
            try:
                current = self._home.current()
                if current in {None, refused, self.release.manifest.release}:
                    continue
                self._recommender.release = await asyncio.to_thread(self._home.open, current)
                log.info("now serving release %s", current)
            except Exception as error:
                refused = current
                if complaint == repr(error):  # said before: a bad pointer is read every time
                    continue
                complaint = repr(error)
                serving = self.release.manifest.release
                foreign = not isinstance(error, NextsongError)
                log.error("stay on release %s: %s", serving, error, exc_info=foreign)  # noqa: TRY400


async def serve(home: Home, host: str, port: int, ready: Callable[[Server], None]) -> None:
    """Serve the current release of `home` until SIGTERM or SIGINT.

    `ready` is called once calls are answered. Raises `NoReleaseError`, `CorruptReleaseError`,
    `EngineError` or `BusyError`.
    """
    server = Server(home, host, port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    await server.start()
    ready(server)
    await stopped.wait()
    await server.stop()
