"""The gRPC server: `Recommender`, health and reflection around the current release of a home."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from catalog.errors import (
    BusyError,
    EngineError,
    NextsongError,
    NoReleaseError,
    ReleaseError,
    UnavailableError,
)
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.api import methods as api
from service.operate.logs import log
from service.operate.tracing import NoTracer
from service.operate.watcher import ReleaseWatcher
from service.rpc.authentication import RequireKey
from service.rpc.calls import Calls, Context, NoMessage
from service.rpc.keys import Keys
from service.rpc.tls import credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager

    from catalog.store import OpenRelease, ReleaseStore
    from service.history import History
    from service.operate.metrics import Metrics
    from service.operate.tracing import Tracer
    from service.settings import Settings

SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"].full_name
ALIVE = "alive"
"""Health of this name is SERVING as long as the process answers: what may restart it asks that."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response", bound="Message")


class _Held:
    """A release and how many calls it answers now."""

    def __init__(self, release: OpenRelease) -> None:
        self.release = release
        self.calls = 0
        self.retired = False


class Recommender(recommender_pb2_grpc.RecommenderServicer):
    """Answers from a release that may be replaced: a call keeps the one that it began with."""

    def __init__(self, calls: Calls, metrics: Metrics, history: History | None) -> None:
        self._calls = calls
        self._history = history
        self._metrics = metrics
        self._held: _Held | None = None
        self.on_trouble: Callable[[], None] = lambda: None
        """Called when a call fails as it does where the release or its home is gone."""

    @property
    def release(self) -> OpenRelease | None:
        """The release that answers now."""
        return self._held.release if self._held else None

    def take_up(self, release: OpenRelease | None) -> None:
        """Answer from this release from now on; the one before is closed after its last call."""
        before = self._held
        self._held = _Held(release) if release else None
        self._metrics.release_changed(release.manifest.release if release else None)
        if before:
            before.retired = True
            self._close_if_done(before)

    def stalled(self) -> AbstractContextManager[None]:
        """During this, the engine may hold the interpreter, and calls wait unseen."""
        return self._calls.admission.stalled()

    async def Recommend(  # noqa: N802
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Answer one playlist."""
        method = partial(api.recommend, history=self._history)
        return await self._answer("Recommend", method, request, context)

    async def BatchRecommend(  # noqa: N802
        self, request: pb.BatchRecommendRequest, context: Context
    ) -> pb.BatchRecommendResponse:
        """Answer many playlists."""
        return await self._answer("BatchRecommend", api.batch_recommend, request, context)

    async def SimilarSongs(  # noqa: N802
        self, request: pb.SimilarSongsRequest, context: Context
    ) -> pb.SimilarSongsResponse:
        """Answer with the songs nearest to one."""
        return await self._answer("SimilarSongs", api.similar_songs, request, context)

    async def SearchSongs(  # noqa: N802
        self, request: pb.SearchSongsRequest, context: Context
    ) -> pb.SearchSongsResponse:
        """Find songs by name."""
        return await self._answer("SearchSongs", api.search_songs, request, context)

    async def GetRelease(  # noqa: N802
        self, request: pb.GetReleaseRequest, context: Context
    ) -> pb.GetReleaseResponse:
        """Describe the release."""
        return await self._answer("GetRelease", api.get_release, request, context)

    async def RecordPlays(  # noqa: N802
        self, request: pb.RecordPlaysRequest, context: Context
    ) -> pb.RecordPlaysResponse:
        """Add to a user's history."""
        method = partial(api.record_plays, history=self._history)
        return await self._answer("RecordPlays", method, request, context)

    async def ForgetUser(  # noqa: N802
        self, request: pb.ForgetUserRequest, context: Context
    ) -> pb.ForgetUserResponse:
        """Remove a user's history."""
        work = partial(api.forget_user, request, self._history)
        return await self._calls.answer("ForgetUser", work, request, context)

    async def _answer(
        self,
        name: str,
        method: Callable[[OpenRelease, Request], Awaitable[Response]],
        request: Request,
        context: Context,
    ) -> Response:
        return await self._calls.answer(name, partial(self._ask, method, request), request, context)

    async def _ask(
        self, method: Callable[[OpenRelease, Request], Awaitable[Response]], request: Request
    ) -> Response:
        with self.lease() as release:
            try:
                return await method(release, request)
            except (ReleaseError, EngineError, UnavailableError):
                self.on_trouble()
                raise

    @contextmanager
    def lease(self) -> Iterator[OpenRelease]:
        """The release that answers now, which stays open until this is left."""
        held = self._held
        if held is None:
            raise NoReleaseError("no release is open yet")
        held.calls += 1
        try:
            yield held.release
        finally:
            held.calls -= 1
            self._close_if_done(held)

    def _close_if_done(self, held: _Held) -> None:
        """Close a release that was replaced as soon as no call needs it any more."""
        if held.retired and held.calls == 0:
            try:
                with self.stalled():
                    held.release.close()
            except NextsongError as error:
                log.warning("a release could not be closed", reason=str(error))


class Server:
    """A server; `port` and `address` (host:port) are where it listens.

    Raises `SettingsError` or `BusyError`; and, unless it may wait for one, what opening the current
    release of `home` raises.
    """

    def __init__(
        self,
        home: ReleaseStore,
        settings: Settings,
        metrics: Metrics,
        tracer: Tracer | None = None,
        history: History | None = None,
    ) -> None:
        self._settings = settings
        keys = Keys(settings.keys_file) if settings.keys_file else None
        secure = credentials(settings)
        self._recommender = Recommender(
            Calls(settings, metrics, tracer or NoTracer()), metrics, history
        )
        self._server = grpc.aio.server(
            options=_options(settings), interceptors=[RequireKey(keys, metrics)] if keys else []
        )
        self._health = health.aio.HealthServicer()
        self._healthy: bool | None = None
        self._server.add_generic_rpc_handlers((_handlers(self._recommender),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        self._history = history
        self._tasks: list[asyncio.Task[None]] = []
        self._lookout = ReleaseWatcher(home, self._recommender, settings, metrics, self._say_health)
        self._recommender.on_trouble = self._lookout.wake
        self._lookout.open_first()
        self.port = self._listen(secure)
        self.address = f"{_bracketed(settings.host)}:{self.port}"

    @property
    def release(self) -> OpenRelease | None:
        """The release that answers now."""
        return self._recommender.release

    async def start(self) -> None:
        """Begin to answer calls, and to look for new releases."""
        await self._health.set(ALIVE, SERVING)
        await self._say_health(self.release is not None)
        await self._server.start()
        self._tasks.append(asyncio.create_task(self._lookout.follow()))
        if self._history:
            self._tasks.append(asyncio.create_task(self._history.purge_at_times()))

    async def stop(self) -> None:
        """Say NOT_SERVING, go on for `drain` seconds, let calls finish for `grace`, and end.

        Nothing that the server began is under way afterwards.
        """
        drain, grace = self._settings.drain, self._settings.grace
        log.info("draining: NOT_SERVING, and calls are still answered", drain_s=drain)
        for task in self._tasks:
            task.cancel()
        await self._say_health(False)
        if drain:
            await asyncio.sleep(drain)
        log.info("ending: no new calls are taken", grace_s=grace)
        await self._server.stop(grace)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._recommender.take_up(None)

    def _listen(self, secure: grpc.ServerCredentials | None) -> int:
        address = f"{_bracketed(self._settings.host)}:{self._settings.port}"
        try:
            if self._settings.workers == 1:  # of several, the parent holds the port
                _try_to_bind(self._settings.host.strip("[]"), self._settings.port)
            if secure:
                return self._server.add_secure_port(address, secure)
            return self._server.add_insecure_port(address)
        except (OSError, RuntimeError) as error:
            self._recommender.take_up(None)
            raise BusyError(
                f"cannot listen on {address}: the port is in use or the address is not of "
                f"this machine; choose another with --port or --host"
            ) from error

    async def _say_health(self, healthy: bool) -> None:
        if healthy is not self._healthy:
            self._healthy = healthy
            for service in ("", SERVICE):
                await self._health.set(service, SERVING if healthy else NOT_SERVING)


def _handlers(recommender: Recommender) -> grpc.GenericRpcHandler:
    """The methods, as generated code would register them, but for bytes that are no message."""
    methods = pb.DESCRIPTOR.services_by_name["Recommender"].methods
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            method.name: grpc.unary_unary_rpc_method_handler(
                getattr(recommender, method.name),
                request_deserializer=partial(_parsed, GetMessageClass(method.input_type)),
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
            for method in methods
        },
    )


def _parsed(kind: type[Message], sent: bytes) -> Message | NoMessage:
    try:
        return kind.FromString(sent)
    except DecodeError:  # gRPC would answer UNKNOWN, with words of its own
        return NoMessage()


def _try_to_bind(host: str, port: int) -> None:
    """Raise `OSError` if none of the host's addresses can be bound.

    gRPC would find out too, and write lines of its own to standard error before it says so.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        try:
            with socket.socket(family, kind, protocol) as probe:
                # What a server before us left in TIME_WAIT must not keep us from its port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            failure = error
        else:
            return
    if failure:
        raise failure


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Two servers on one port must be a mistake that is noticed, unless they are of one family.
        ("grpc.so_reuseport", int(settings.workers > 1)),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.server_handshake_timeout_ms", 20_000),
        # A caller that does not read its answers must not have any number of them kept for it.
        ("grpc.max_concurrent_streams", 1_000),
        # Callers that went away without a word are noticed, and theirs may look after us.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        *_age(settings),
    ]


def _age(settings: Settings) -> list[tuple[str, int]]:
    # A connection that is never renewed never reaches a process that was added.
    if not settings.max_connection_age:
        return []
    return [
        ("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000)),
        ("grpc.max_connection_age_grace_ms", round((settings.call_timeout + 1) * 1000)),
    ]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
