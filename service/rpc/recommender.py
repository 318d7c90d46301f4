"""The methods of the `Recommender` service, each answered from the current release."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message_factory import GetMessageClass

from catalog.errors import EngineError, ReleaseError, UnavailableError
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods as api
from service.rpc.call import MethodHandler, chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.protobuf.message import Message

    from catalog.store import OpenRelease
    from service.history import History
    from service.operate.current_release import CurrentRelease
    from service.rpc.call import Call, Interceptor

_SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"]


class Recommender:
    """The methods of the API, each answered from the current release.

    `on_failure` is called when a call fails and the release or its store may be gone.
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
    def _lease(self, call: Call) -> Iterator[OpenRelease]:
        with self._current.lease() as release:
            try:
                yield release.with_deadline(call.deadline)
            except (ReleaseError, EngineError, UnavailableError):
                self._on_failure()
                raise

    def _open_history(self, call: Call) -> History | None:
        return self._history.with_deadline(call.deadline) if self._history else None

    async def Recommend(self, call: Call) -> Message:  # noqa: N802
        """Recommend songs for one playlist."""
        with self._lease(call) as release:
            return await api.recommend(
                release, call.request, self._open_history(call), call.timings
            )

    async def BatchRecommend(self, call: Call) -> Message:  # noqa: N802
        """Recommend songs for each of many playlists."""
        with self._lease(call) as release:
            return await api.batch_recommend(release, call.request, call.timings)

    async def SimilarSongs(self, call: Call) -> Message:  # noqa: N802
        """Return the songs nearest to a song."""
        with self._lease(call) as release:
            return await api.similar_songs(release, call.request, call.timings)

    async def SearchSongs(self, call: Call) -> Message:  # noqa: N802
        """Find songs by name."""
        with self._lease(call) as release:
            return await api.search_songs(release, call.request)

    async def GetRelease(self, call: Call) -> Message:  # noqa: N802
        """Describe the current release."""
        with self._lease(call) as release:
            return await api.get_release(release, call.request)

    async def RecordPlays(self, call: Call) -> Message:  # noqa: N802
        """Add plays to a user's history."""
        with self._lease(call) as release:
            return await api.record_plays(release, call.request, self._open_history(call))

    async def ForgetUser(self, call: Call) -> Message:  # noqa: N802
        """Remove a user's history."""
        return await api.forget_user(call.request, self._open_history(call))


class RecommenderHandler(grpc.GenericRpcHandler):
    """Routes the calls of each method through interceptors to a `Recommender`."""

    def __init__(self, recommender: Recommender, interceptors: Sequence[Interceptor]) -> None:
        self._handlers = {
            f"/{_SERVICE.full_name}/{method.name}": MethodHandler(
                method.name,
                chain(interceptors, getattr(recommender, method.name)),
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type).SerializeToString,
            )
            for method in _SERVICE.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> MethodHandler | None:
        """Return the handler of a call, or None if the call is for another service."""
        return self._handlers.get(handler_call_details.method)
