"""Python clients: `Client` calls a service over gRPC, `Direct` answers from an open release."""

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
from service.rpc.status import build_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from google.protobuf.message import Message

    from catalog.store import OpenRelease

Response = TypeVar("Response", bound="Message")

TIMEOUT_S = 5.0  # maximum seconds of a call, including all attempts

_SERVICE_CONFIG = json.dumps(
    {
        # By default, all calls go to the first address that answers.
        "loadBalancingConfig": [{"round_robin": {}}],
        # A failed call removes a token, and a successful call adds a tenth of a token. While fewer
        # than half of the tokens are left, calls are not retried, so that retries cannot overload a
        # failing service.
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "methodConfig": [
            {
                "name": [{"service": "nextsong.v1.Recommender"}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    # A server that is shutting down cancels calls that arrive too late.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
)

MAX_RESPONSE_BYTES = 64 << 20
"""Maximum size of a response. The default of gRPC, 4 MiB, is too small for large batches."""

_OPTIONS = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # Reconnect to a restarted server within seconds; by default, gRPC waits up to 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
]


class Client:
    """A client of the service at `address` (host:port).

    Each call takes at most `timeout` seconds, including retries. If the host name resolves to
    several addresses, or if `address` lists several (`ipv4:HOST:PORT,HOST:PORT`), calls go to them
    in turn. A call is tried up to four times if the service is unavailable or shutting down, but
    fewer times if most calls fail. If the service is at capacity, a call is repeated after the
    delay that the service asks for, plus a random time of up to the same length. Every call can be
    repeated safely. Threads can share a client; processes cannot share one across a fork.

    - `key`: sent as a bearer token.
    - `ca`: use TLS and trust only the certificates in this PEM file.
    - `tls`: use TLS and trust the certificates that the system trusts.
    - `cert`, `key_of_cert`: PEM files of the certificate and private key for mutual TLS.

    Failures raise `RequestError`, `UnknownSongError`, `NoKeyError`, `OverloadError`,
    `UnavailableError`, `TooLateError` or `EngineError`.
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
                    ca.read_bytes() if ca else _read_system_certificates(),
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
        """Recommend the songs that should come next in a playlist."""
        return self._call(self._stub.Recommend, request, pb.RecommendResponse)

    def batch_recommend(self, request: pb.BatchRecommendRequest) -> pb.BatchRecommendResponse:
        """Recommend songs for each of many playlists."""
        return self._call(self._stub.BatchRecommend, request, pb.BatchRecommendResponse)

    def similar_songs(self, request: pb.SimilarSongsRequest) -> pb.SimilarSongsResponse:
        """List the songs nearest to a song."""
        return self._call(self._stub.SimilarSongs, request, pb.SimilarSongsResponse)

    def search_songs(self, request: pb.SearchSongsRequest) -> pb.SearchSongsResponse:
        """Find songs by part of their artist or title."""
        return self._call(self._stub.SearchSongs, request, pb.SearchSongsResponse)

    def get_release(self) -> pb.GetReleaseResponse:
        """Describe the current release."""
        return self._call(self._stub.GetRelease, pb.GetReleaseRequest(), pb.GetReleaseResponse)

    def record_plays(self, request: pb.RecordPlaysRequest) -> pb.RecordPlaysResponse:
        """Add plays to a user's history. Also raises `NoHistoryError`.

        Plays without a time get the current time, so that a retried call does not add them twice.
        """
        timed = pb.RecordPlaysRequest()
        timed.CopyFrom(request)
        now = time.time_ns() // 1_000_000
        for age_ms, play in enumerate(reversed(timed.plays)):
            play.at_ms = play.at_ms or now - age_ms
        return self._call(self._stub.RecordPlays, timed, pb.RecordPlaysResponse)

    def forget_user(self, request: pb.ForgetUserRequest) -> pb.ForgetUserResponse:
        """Remove a user's history. Also raises `NoHistoryError`."""
        return self._call(self._stub.ForgetUser, request, pb.ForgetUserResponse)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Message, kind: type[Response]) -> Response:
        deadline = time.monotonic() + self._timeout
        delay_s = 0.0
        while True:
            timeout = deadline - time.monotonic()
            try:
                response = method(request, timeout=timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                mapped = build_error(error, self._address)
                if not isinstance(mapped, OverloadError):
                    raise mapped from error
                delay_s = max(2 * delay_s, mapped.wait_s)
                # The random factor keeps callers that were refused together from retrying together.
                pause_s = delay_s * random.uniform(1, 2)
                if time.monotonic() + pause_s >= deadline:
                    raise mapped from error
                time.sleep(pause_s)
            else:
                assert isinstance(response, kind)
                return response


def _read_system_certificates() -> bytes | None:
    """Return the certificates that the system trusts, or None to use the default of gRPC."""
    file = ssl.get_default_verify_paths().cafile
    if file is None or "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in os.environ:
        return None
    return Path(file).read_bytes()


class Direct:
    """A recommender that answers from an open release in this process, without a service.

    It has the methods of `Client`, except those for listening history. `close` closes the release.
    """

    def __init__(self, release: OpenRelease) -> None:
        self.release = release

    def recommend(self, request: pb.RecommendRequest) -> pb.RecommendResponse:
        """Recommend the songs that should come next in a playlist."""
        return asyncio.run(methods.recommend(self.release, request))

    def batch_recommend(self, request: pb.BatchRecommendRequest) -> pb.BatchRecommendResponse:
        """Recommend songs for each of many playlists."""
        return asyncio.run(methods.batch_recommend(self.release, request))

    def similar_songs(self, request: pb.SimilarSongsRequest) -> pb.SimilarSongsResponse:
        """List the songs nearest to a song."""
        return asyncio.run(methods.similar_songs(self.release, request))

    def search_songs(self, request: pb.SearchSongsRequest) -> pb.SearchSongsResponse:
        """Find songs by part of their artist or title."""
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
