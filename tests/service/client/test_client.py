"""The client: absent, blocked, busy and restarted servers, retries and load balancing."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from catalog.errors import BusyError, OverloadError, TooLateError, UnavailableError
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.client.client import Client
from service.rpc.status import build_status
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_servers import PATIENCE_S, POINTS, WATERLOO, Loop, SlowRelease, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.model import Hit, Search


def test_an_error_says_that_no_service_listens() -> None:
    with socket.socket() as taken:  # bind the port, so that no other process can listen on it
        taken.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        with (
            Client(f"127.0.0.1:{taken.getsockname()[1]}") as client,
            pytest.raises(UnavailableError, match="no service listens there"),
        ):
            client.recommend(WATERLOO)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "not a nextsong service of this version"), ({"tls": True}, "does not use TLS")],
    ids=["another service", "TLS"],
)
def test_an_error_says_that_something_else_listens(options: dict[str, Any], message: str) -> None:
    another_service = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{another_service.add_insecure_port('127.0.0.1:0')}"
    another_service.start()
    try:
        with (
            Client(address, **options) as client,
            pytest.raises(UnavailableError, match=f"^{address}: .*{message}"),
        ):
            client.get_release()
    finally:
        another_service.stop(None)


def test_an_error_says_that_the_host_does_not_exist() -> None:
    with (
        Client("no-such-host.invalid:1") as client,
        pytest.raises(UnavailableError, match="correct the address"),
    ):
        client.get_release()


def test_a_call_fails_after_the_timeout(loop: Loop) -> None:
    stuck = SlowRelease(POINTS)
    with (
        loop.serve(FakeStore(stuck)) as server,
        Client(server.address, timeout=0.2) as client,
        pytest.raises(TooLateError, match=r"Deadline Exceeded|no answer within"),
    ):
        client.recommend(WATERLOO)


def test_the_client_reconnects_to_a_restarted_server(loop: Loop) -> None:
    store = FakeStore(FakeRelease(POINTS))
    with loop.serve(store) as server:
        client = Client(server.address)
        client.recommend(WATERLOO)
    with loop.serve(store, port=server.port), client:
        client.recommend(WATERLOO)


class FlakyRelease(FakeRelease):
    """A release that is busy during the first `failures` calls."""

    failures = 0

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        self.failures -= 1
        if self.failures >= 0:
            raise BusyError("busy")
        return await super().find(searches)


@pytest.mark.parametrize(("failures", "answered"), [(3, True), (4, False)])
def test_a_call_is_made_at_most_four_times(loop: Loop, failures: int, answered: bool) -> None:
    release = FlakyRelease(POINTS)
    release.failures = failures
    with loop.serve(FakeStore(release)) as server, Client(server.address) as client:
        if answered:
            assert client.recommend(WATERLOO).release == "fake"
        else:
            with pytest.raises(UnavailableError, match="try again soon"):
                client.recommend(WATERLOO)
    assert release.failures == (-1 if answered else 0)


class CancellingHandler(grpc.GenericRpcHandler):
    """Cancels the first calls, like a server that is shutting down, and answers later calls."""

    def __init__(self, response: bytes, cancelled: int = 1) -> None:
        self.requests: list[bytes] = []
        self._cancelled = cancelled
        self._response = response

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._serve)

    def _serve(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.requests.append(request)
        if len(self.requests) <= self._cancelled:
            context.abort(grpc.StatusCode.CANCELLED, "Server shutdown")
        return self._response


@contextmanager
def serve(handler: grpc.GenericRpcHandler) -> Iterator[Client]:
    server = grpc.server(
        ThreadPoolExecutor(1), handlers=[handler], options=[("grpc.max_send_message_length", -1)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}") as client:
        yield client
    server.stop(None).wait()


def test_a_call_cancelled_by_a_server_that_shuts_down_is_repeated() -> None:
    handler = CancellingHandler(pb.RecommendResponse(release="next").SerializeToString())
    with serve(handler) as client:
        assert client.recommend(WATERLOO).release == "next"
    assert len(handler.requests) == 2


def test_a_repeated_call_sends_plays_with_the_same_time() -> None:
    handler = CancellingHandler(pb.RecordPlaysResponse(recorded=2).SerializeToString())
    request = pb.RecordPlaysRequest(user_id="ann", plays=[pb.Play(), pb.Play(at_ms=7), pb.Play()])
    before = time.time_ns() // 1_000_000
    with serve(handler) as client:
        assert client.record_plays(request).recorded == 2
    first, repeated = (pb.RecordPlaysRequest.FromString(sent) for sent in handler.requests)
    assert first == repeated
    oldest, timed, newest = (play.at_ms for play in first.plays)
    assert timed == 7
    assert before - 2 <= oldest < newest <= time.time_ns() // 1_000_000
    assert [play.at_ms for play in request.plays] == [0, 7, 0]


def test_large_responses_are_received() -> None:
    songs = [pb.ScoredSong(song=pb.Song(title="x" * 1_000))] * 10_000
    large = pb.RecommendResponse(songs=songs).SerializeToString()
    assert len(large) > 2 * (4 << 20)
    with serve(CancellingHandler(large, cancelled=0)) as client:
        assert len(client.recommend(WATERLOO).songs) == 10_000


def test_no_call_fails_while_one_of_two_servers_shuts_down(loop: Loop) -> None:
    ended, failures, answered = threading.Event(), list[Exception](), 0
    with loop.serve(FakeStore(FakeRelease(POINTS)), workers=2) as first:

        def call() -> None:
            nonlocal answered
            while not ended.is_set():
                try:
                    with Client(first.address, PATIENCE_S) as client:
                        for _ in range(10):  # each connection goes to one of the servers
                            client.recommend(WATERLOO)
                            answered += 1
                except Exception as error:  # noqa: BLE001
                    failures.append(error)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(4):
            with loop.serve(FakeStore(FakeRelease(POINTS)), workers=2, port=first.port):
                before = answered
                wait_until(lambda before=before: answered > before + 50)
        ended.set()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert failures == []


@pytest.mark.parametrize("age", [0.5, 0])
def test_no_call_fails_while_connections_are_renewed(loop: Loop, age: float) -> None:
    states = []
    with (
        loop.serve(FakeStore(FakeRelease(POINTS)), max_connection_age=age) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        channel.subscribe(states.append)
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            stub.Recommend(WATERLOO, timeout=PATIENCE_S)
    assert (states.count(grpc.ChannelConnectivity.READY) > 1) is bool(age)


def test_calls_are_distributed_over_the_replicas_that_are_up(loop: Loop) -> None:
    releases = [FakeRelease(POINTS, name=name) for name in ("one", "two", "three")]
    with ExitStack() as running:
        first = running.enter_context(loop.serve(FakeStore(releases[0])))
        ports = [first.port] + [
            running.enter_context(loop.serve(FakeStore(release))).port for release in releases[1:]
        ]
        address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        with Client(address, PATIENCE_S) as client:

            def count_answers(calls: int) -> Counter[str]:
                return Counter(client.recommend(WATERLOO).release for _ in range(calls))

            # Wait until the client is connected to all servers.
            wait_until(lambda: len(count_answers(3)) == 3)
            assert count_answers(30) == {"one": 10, "two": 10, "three": 10}
            loop.run(first.stop())
            wait_until(lambda: "one" not in count_answers(2))
            assert count_answers(20) == {"two": 10, "three": 10}
            with loop.serve(FakeStore(releases[0]), port=first.port):
                wait_until(lambda: len(count_answers(3)) == 3)


def test_calls_are_not_repeated_if_most_calls_fail(loop: Loop) -> None:
    release = FlakyRelease(POINTS)
    release.failures = 1_000
    with loop.serve(FakeStore(release)) as server, Client(server.address) as client:
        for _ in range(20):
            with pytest.raises(UnavailableError):
                client.recommend(WATERLOO)
    # The first call is tried four times. Later calls are tried once, because most calls fail.
    assert 1_000 - release.failures == 4 + 19


class BusyHandler(grpc.GenericRpcHandler):
    """Refuses all calls, and asks callers to repeat them after half a second."""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._serve)

    def _serve(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort_with_status(build_status(OverloadError("too many calls", 0.5)))
        return b""


def test_refused_calls_are_repeated_after_different_delays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("service.client.client.time.sleep", pauses.append)
    with serve(BusyHandler()) as client:
        for _ in range(5):
            with pytest.raises(OverloadError):
                client.recommend(WATERLOO)
    firsts = [pause for pause in pauses if pause <= 1]  # the second pause of a call is longer
    assert len(set(firsts)) == 5
    assert min(firsts) >= 0.5
