"""The methods of the `Recommender` service, each answered from the current release."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from catalog.errors import EngineError, ReleaseError, UnavailableError
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods as api
from service.rpc.call import MethodHandler, chain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from google.protobuf.message import Message

    from catalog.store import OpenRelease
    from service.history import History
    from service.operate.current_release import CurrentRelease
    from service.operate.timing import Timings
    from service.rpc.call import Call, Handler, Interceptor

_SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"]


class Recommender:
    """The methods of the API, each answered from the current release.

    The `deadline` of a call is a time of `time.monotonic`. `on_failure` is called when a call fails
    and the release or its store may be gone.
    """

    def __init__(
        self,
        current: CurrentRelease,
        history: History | None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._current = current
        self._history = history
        self._on_failure = on_failure

    @contextmanager
    def _lease(self, deadline: float | None) -> Iterator[OpenRelease]:
        with self._current.lease() as release:
            try:
                yield release.with_deadline(deadline)
            except (ReleaseError, EngineError, UnavailableError):
                self._on_failure()
                raise

    def _history_until(self, deadline: float | None) -> History | None:
        return self._history.with_deadline(deadline) if self._history else None

    async def Recommend(  # noqa: N802
        self, request: pb.RecommendRequest, timings: Timings, deadline: float | None = None
    ) -> pb.RecommendResponse:
        """Continue one playlist."""
        with self._lease(deadline) as release:
            return await api.recommend(release, request, self._history_until(deadline), timings)

    async def BatchRecommend(  # noqa: N802
        self, request: pb.BatchRecommendRequest, timings: Timings, deadline: float | None = None
    ) -> pb.BatchRecommendResponse:
        """Continue many playlists."""
        with self._lease(deadline) as release:
            return await api.batch_recommend(release, request, timings)

    async def SimilarSongs(  # noqa: N802
        self, request: pb.SimilarSongsRequest, timings: Timings, deadline: float | None = None
    ) -> pb.SimilarSongsResponse:
        """Return the songs nearest to a song."""
        with self._lease(deadline) as release:
            return await api.similar_songs(release, request, timings)

    async def SearchSongs(  # noqa: N802
        self, request: pb.SearchSongsRequest, _timings: Timings, deadline: float | None = None
    ) -> pb.SearchSongsResponse:
        """Find songs by name."""
        with self._lease(deadline) as release:
            return await api.search_songs(release, request)

    async def GetRelease(  # noqa: N802
        self, request: pb.GetReleaseRequest, _timings: Timings, deadline: float | None = None
    ) -> pb.GetReleaseResponse:
        """Describe the current release."""
        with self._lease(deadline) as release:
            return await api.get_release(release, request)

    async def RecordPlays(  # noqa: N802
        self, request: pb.RecordPlaysRequest, _timings: Timings, deadline: float | None = None
    ) -> pb.RecordPlaysResponse:
        """Add to a user's history."""
        with self._lease(deadline) as release:
            return await api.record_plays(release, request, self._history_until(deadline))

    async def ForgetUser(  # noqa: N802
        self, request: pb.ForgetUserRequest, _timings: Timings, deadline: float | None = None
    ) -> pb.ForgetUserResponse:
        """Remove a user's history."""
        return await api.forget_user(request, self._history_until(deadline))


class RecommenderHandler(grpc.GenericRpcHandler):
    """Routes the calls of each method through interceptors to a `Recommender`."""

    def __init__(self, recommender: Recommender, interceptors: Sequence[Interceptor]) -> None:
        self._handlers = {
            f"/{_SERVICE.full_name}/{method.name}": MethodHandler(
                method.name,
                chain(interceptors, _invoke(getattr(recommender, method.name))),
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type).SerializeToString,
            )
            for method in _SERVICE.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> MethodHandler | None:
        """Return the handler of a call, or None for a call of another service."""
        return self._handlers.get(handler_call_details.method)


def _invoke(method: Callable[[Any, Timings, float | None], Awaitable[Message]]) -> Handler:
    async def invoke(call: Call) -> Message:
        return await method(call.request, call.timings, call.deadline)

    return invoke
