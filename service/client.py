"""The API from Python: of a running service over gRPC, or of a release opened in this process."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service import api
from service.statuses import error_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from google.protobuf.message import Message

    from catalog.release import OpenRelease

Response = TypeVar("Response", bound="Message")

_RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "nextsong.v1.Recommender"}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


class Client:
    """Calls a service at `address` (host:port), each call within `timeout` seconds.

    Calls that find the service unavailable are tried again, up to four times in all. Failures
    raise `RequestError`, `UnknownSongError`, `UnavailableError` or `EngineError`.
    """

    def __init__(self, address: str, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.service_config", _RETRIES), ("grpc.enable_retries", 1)]
        )
        self._stub = recommender_pb2_grpc.RecommenderStub(self._channel)

    def recommend(self, request: pb.RecommendRequest) -> pb.RecommendResponse:
        """Ask which songs come next in a playlist."""
        return self._call(self._stub.Recommend, request, pb.RecommendResponse)

    def similar_songs(self, request: pb.SimilarSongsRequest) -> pb.SimilarSongsResponse:
        """Ask for the songs nearest to one."""
        return self._call(self._stub.SimilarSongs, request, pb.SimilarSongsResponse)

    def search_songs(self, request: pb.SearchSongsRequest) -> pb.SearchSongsResponse:
        """Look for songs by part of their names."""
        return self._call(self._stub.SearchSongs, request, pb.SearchSongsResponse)

    def get_release(self) -> pb.GetReleaseResponse:
        """Ask which release answers."""
        return self._call(self._stub.GetRelease, pb.GetReleaseRequest(), pb.GetReleaseResponse)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Message, kind: type[Response]) -> Response:
        try:
            response = method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error) from error
        assert isinstance(response, kind)
        return response


class Direct:
    """The same calls, answered by an open release in this process, which `close` closes."""

    def __init__(self, release: OpenRelease) -> None:
        self.release = release

    def recommend(self, request: pb.RecommendRequest) -> pb.RecommendResponse:
        """Say which songs come next in a playlist."""
        return asyncio.run(api.recommend(self.release, request))

    def similar_songs(self, request: pb.SimilarSongsRequest) -> pb.SimilarSongsResponse:
        """List the songs nearest to one."""
        return asyncio.run(api.similar_songs(self.release, request))

    def search_songs(self, request: pb.SearchSongsRequest) -> pb.SearchSongsResponse:
        """Find songs by part of their names."""
        return asyncio.run(api.search_songs(self.release, request))

    def get_release(self) -> pb.GetReleaseResponse:
        """Describe the release."""
        return asyncio.run(api.get_release(self.release, pb.GetReleaseRequest()))

    def close(self) -> None:
        """Close the release."""
        self.release.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
