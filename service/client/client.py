"""The API from Python: of a running service over gRPC, or of a release opened in this process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from catalog.errors import OverloadError, SettingsError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.api import methods
from service.rpc.status import error_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from google.protobuf.message import Message

    from catalog.store import OpenRelease

Response = TypeVar("Response", bound="Message")

TIMEOUT_S = 5.0

_SERVICE_CONFIG = json.dumps(
    {
        # By default all calls would go to the first address that answers.
        "loadBalancingConfig": [{"round_robin": {}}],
        # A service that keeps failing gets each call once, not four times: a failure costs a token,
        # a success brings a tenth of one back, and below half of them nothing is tried again.
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "methodConfig": [
            {
                "name": [{"service": "nextsong.v1.Recommender"}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    # A server that ends cancels what comes too late for it.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
)

LARGEST_ANSWER = 64 << 20
"""The largest legal answers, of batches, are above the 4 MiB that gRPC takes by default."""

_OPTIONS = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # A replica that was away is tried again within seconds: by default gRPC waits up to 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", LARGEST_ANSWER),
]


class Client:
    """Calls a service at `address` (host:port), each call within `timeout` seconds in all.

    If the host's name stands for several addresses, calls go to all of them in turn; so they do
    with `ipv4:HOST:PORT,HOST:PORT`. Calls that find the service unavailable, or ending, are tried
    again, up to four times in all, and less if most calls fail; calls that find it busy, after the
    time that it names and up to as much again, as long as `timeout` allows. Every call can be
    repeated safely. Failures raise `RequestError`, `UnknownSongError`, `NoKeyError`,
    `OverloadError`, `UnavailableError`, `TooLateError` or `EngineError`. May be used by several
    threads, and not across a fork.

    - `key`: sent as a bearer token.
    - `ca`: speak TLS, and trust these certificates (a PEM file); `tls`: trust the system's.
    - `cert`, `key_of_cert`: show this certificate (PEM files): mutual TLS.
    """

    def __init__(
        self,
        address: str,
        timeout: float = TIMEOUT_S,
        *,
        key: str | None = None,
        tls: bool = False,
        ca: Path | None = None,
        cert: Path | None = None,
        key_of_cert: Path | None = None,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._metadata = [("authorization", f"Bearer {key}")] if key else []
        if tls or ca or cert:
            try:
                credentials = grpc.ssl_channel_credentials(
                    ca.read_bytes() if ca else _trusted_by_the_system(),
                    key_of_cert.read_bytes() if key_of_cert else None,
                    cert.read_bytes() if cert else None,
                )
            except OSError as error:
                raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from error
            self._channel = grpc.secure_channel(address, credentials, options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = recommender_pb2_grpc.RecommenderStub(self._channel)

    def recommend(self, request: pb.RecommendRequest) -> pb.RecommendResponse:
        """Ask which songs come next in a playlist."""
        return self._call(self._stub.Recommend, request, pb.RecommendResponse)

    def batch_recommend(self, request: pb.BatchRecommendRequest) -> pb.BatchRecommendResponse:
        """Ask which songs come next in each of many playlists."""
        return self._call(self._stub.BatchRecommend, request, pb.BatchRecommendResponse)

    def similar_songs(self, request: pb.SimilarSongsRequest) -> pb.SimilarSongsResponse:
        """Ask for the songs nearest to one."""
        return self._call(self._stub.SimilarSongs, request, pb.SimilarSongsResponse)

    def search_songs(self, request: pb.SearchSongsRequest) -> pb.SearchSongsResponse:
        """Look for songs by part of their names."""
        return self._call(self._stub.SearchSongs, request, pb.SearchSongsResponse)

    def get_release(self) -> pb.GetReleaseResponse:
        """Ask which release answers."""
        return self._call(self._stub.GetRelease, pb.GetReleaseRequest(), pb.GetReleaseResponse)

    def record_plays(self, request: pb.RecordPlaysRequest) -> pb.RecordPlaysResponse:
        """Add to a user's history. Raises `NoHistoryError` too.

        Plays without a time are given the present one, so that a call that is tried again adds
        nothing twice.
        """
        timed = pb.RecordPlaysRequest()
        timed.CopyFrom(request)
        now, last = time.time_ns() // 1_000_000, len(timed.plays) - 1
        for place, play in enumerate(timed.plays):
            play.at_ms = play.at_ms or now - (last - place)
        return self._call(self._stub.RecordPlays, timed, pb.RecordPlaysResponse)

    def forget_user(self, request: pb.ForgetUserRequest) -> pb.ForgetUserResponse:
        """Remove a user's history. Raises `NoHistoryError` too."""
        return self._call(self._stub.ForgetUser, request, pb.ForgetUserResponse)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Message, kind: type[Response]) -> Response:
        end = time.monotonic() + self._timeout
        wait_s = 0.0
        while True:
            left = end - time.monotonic()
            try:
                response = method(request, timeout=left, metadata=self._metadata)
            except grpc.RpcError as error:
                ours = error_of(error, self._address)
                if not isinstance(ours, OverloadError):
                    raise ours from error
                wait_s = max(2 * wait_s, ours.wait_s)
                # Callers that were turned away together do not come back together.
                pause_s = wait_s * random.uniform(1, 2)
                if time.monotonic() + pause_s >= end:
                    raise ours from error
                time.sleep(pause_s)
            else:
                assert isinstance(response, kind)
                return response


def _trusted_by_the_system() -> bytes | None:
    """The certificates that the system trusts; None leaves it to those that gRPC brings."""
    file = ssl.get_default_verify_paths().cafile
    if file is None or "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in os.environ:
        return None
    return Path(file).read_bytes()


class Direct:
    """The same calls, answered by an open release in this process, which `close` closes."""

    def __init__(self, release: OpenRelease) -> None:
        self.release = release

    def recommend(self, request: pb.RecommendRequest) -> pb.RecommendResponse:
        """Say which songs come next in a playlist."""
        return asyncio.run(methods.recommend(self.release, request))

    def batch_recommend(self, request: pb.BatchRecommendRequest) -> pb.BatchRecommendResponse:
        """Say which songs come next in each of many playlists."""
        return asyncio.run(methods.batch_recommend(self.release, request))

    def similar_songs(self, request: pb.SimilarSongsRequest) -> pb.SimilarSongsResponse:
        """List the songs nearest to one."""
        return asyncio.run(methods.similar_songs(self.release, request))

    def search_songs(self, request: pb.SearchSongsRequest) -> pb.SearchSongsResponse:
        """Find songs by part of their names."""
        return asyncio.run(methods.search_songs(self.release, request))

    def get_release(self) -> pb.GetReleaseResponse:
        """Describe the release."""
        return asyncio.run(methods.get_release(self.release, pb.GetReleaseRequest()))

    def close(self) -> None:
        """Close the release."""
        self.release.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
