"""The client and the network: what it says of a server that is gone, stuck, busy or new."""

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
from service.rpc.status import status_of
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.rpc_servers import PATIENCE_S, POINTS, WATERLOO, Loop, Slow, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.model import Hit, Search


def test_the_client_says_when_nothing_listens() -> None:
    with socket.socket() as taken:  # bound, and so nobody else's, but not listening
        taken.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        with (
            Client(f"127.0.0.1:{taken.getsockname()[1]}") as client,
            pytest.raises(UnavailableError, match="no service listens there"),
        ):
            client.recommend(WATERLOO)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("more", "said"),
    [({}, "not a nextsong service of this version"), ({"tls": True}, "does not use TLS")],
    ids=["another service", "TLS"],
)
def test_the_client_says_what_to_do_when_something_else_listens(
    more: dict[str, Any], said: str
) -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
    other.start()
    try:
        with (
            Client(address, **more) as client,
            pytest.raises(UnavailableError, match=f"^{address}: .*{said}"),
        ):
            client.get_release()
    finally:
        other.stop(None)


def test_a_host_that_does_not_exist_is_said() -> None:
    with (
        Client("no-such-host.invalid:1") as client,
        pytest.raises(UnavailableError, match="correct the address"),
    ):
        client.get_release()


def test_the_client_gives_up_in_time(loop: Loop) -> None:
    stuck = Slow(POINTS)
    with (
        loop.serve(FakeStore(stuck)) as server,
        Client(server.address, timeout=0.2) as client,
        pytest.raises(TooLateError, match=r"Deadline Exceeded|no answer within"),
    ):
        client.recommend(WATERLOO)


def test_the_client_finds_a_server_that_was_started_anew(loop: Loop) -> None:
    home = FakeStore(FakeRelease(POINTS))
    with loop.serve(home) as server:
        client = Client(server.address)
        client.recommend(WATERLOO)
    with loop.serve(home, port=server.port), client:
        client.recommend(WATERLOO)


class Flaky(FakeRelease):
    """Is busy for the first `failures` calls."""

    failures = 0

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        self.failures -= 1
        if self.failures >= 0:
            raise BusyError("busy")
        return await super().find(searches)


@pytest.mark.parametrize(("failures", "answered"), [(3, True), (4, False)])
def test_the_client_tries_four_times_in_all(loop: Loop, failures: int, answered: bool) -> None:
    release = Flaky(POINTS)
    release.failures = failures
    with loop.serve(FakeStore(release)) as server, Client(server.address) as client:
        if answered:
            assert client.recommend(WATERLOO).release == "fake"
        else:
            with pytest.raises(UnavailableError, match="try again soon"):
                client.recommend(WATERLOO)
    assert release.failures == (-1 if answered else 0)


class Ending(grpc.GenericRpcHandler):
    """Cancels the first `cancelled` calls, as a server does that ends; then answers."""

    def __init__(self, answer: bytes, cancelled: int = 1) -> None:
        self.left = cancelled
        self.asked: list[bytes] = []
        self._answer = answer

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._serve)

    def _serve(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.asked.append(request)
        self.left -= 1
        if self.left >= 0:
            context.abort(grpc.StatusCode.CANCELLED, "Server shutdown")
        return self._answer


@contextmanager
def answering(handler: grpc.GenericRpcHandler) -> Iterator[Client]:
    server = grpc.server(
        ThreadPoolExecutor(1), handlers=[handler], options=[("grpc.max_send_message_length", -1)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}") as client:
        yield client
    server.stop(None).wait()


def test_a_call_that_a_server_cancels_as_it_ends_is_tried_again() -> None:
    ending = Ending(pb.RecommendResponse(release="next").SerializeToString())
    with answering(ending) as client:
        assert client.recommend(WATERLOO).release == "next"
    assert len(ending.asked) == 2


def test_plays_have_a_time_so_that_trying_again_adds_none() -> None:
    ending = Ending(pb.RecordPlaysResponse(recorded=2).SerializeToString())
    given = pb.RecordPlaysRequest(user_id="ann", plays=[pb.Play(), pb.Play(at_ms=7), pb.Play()])
    before = time.time_ns() // 1_000_000
    with answering(ending) as client:
        assert client.record_plays(given).recorded == 2
    first, again = (pb.RecordPlaysRequest.FromString(sent) for sent in ending.asked)
    assert first == again
    one, two, three = (play.at_ms for play in first.plays)
    assert two == 7
    assert before - 2 <= one < three <= time.time_ns() // 1_000_000
    assert [play.at_ms for play in given.plays] == [0, 7, 0]


def test_the_largest_answers_arrive() -> None:
    songs = [pb.ScoredSong(song=pb.Song(title="x" * 1_000))] * 10_000
    large = pb.RecommendResponse(songs=songs).SerializeToString()
    assert len(large) > 2 * (4 << 20)
    with answering(Ending(large, cancelled=0)) as client:
        assert len(client.recommend(WATERLOO).songs) == 10_000


def test_no_call_fails_while_one_of_two_servers_ends(loop: Loop) -> None:
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
                until(lambda before=before: answered > before + 50)
        ended.set()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert failures == []


@pytest.mark.parametrize("age", [0.5, 0])
def test_connections_are_renewed_and_no_call_fails(loop: Loop, age: float) -> None:
    states = []
    with (
        loop.serve(FakeStore(FakeRelease(POINTS)), max_connection_age=age) as server,
        grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel,
    ):
        channel.subscribe(states.append)
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            stub.Recommend(WATERLOO, timeout=PATIENCE_S)
    assert (states.count(grpc.ChannelConnectivity.READY) > 1) is bool(age)


def test_calls_are_spread_over_replicas_and_go_on_without_one(loop: Loop) -> None:
    releases = [FakeRelease(POINTS, name=name) for name in ("one", "two", "three")]
    with ExitStack() as running:
        first = running.enter_context(loop.serve(FakeStore(releases[0])))
        ports = [first.port] + [
            running.enter_context(loop.serve(FakeStore(release))).port for release in releases[1:]
        ]
        address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        with Client(address, PATIENCE_S) as client:

            def answered_by(calls: int) -> Counter[str]:
                return Counter(client.recommend(WATERLOO).release for _ in range(calls))

            until(lambda: len(answered_by(3)) == 3)  # all are connected
            assert answered_by(30) == {"one": 10, "two": 10, "three": 10}
            loop.run(first.stop())
            until(lambda: "one" not in answered_by(2))
            assert answered_by(20) == {"two": 10, "three": 10}
            with loop.serve(FakeStore(releases[0]), port=first.port):
                until(lambda: len(answered_by(3)) == 3)


def test_a_service_that_keeps_failing_is_not_asked_four_times_for_each_call(loop: Loop) -> None:
    release = Flaky(POINTS)
    release.failures = 1_000
    with loop.serve(FakeStore(release)) as server, Client(server.address) as client:
        for _ in range(20):
            with pytest.raises(UnavailableError):
                client.recommend(WATERLOO)
    # Four times for the first call, and once for each of the others, but for what successes allow.
    assert 1_000 - release.failures == 4 + 19


class Busy(grpc.GenericRpcHandler):
    """Turns all calls away, to come back after half a second."""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._serve)

    def _serve(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort_with_status(status_of(OverloadError("too many calls", 0.5)))
        return b""


def test_callers_that_are_turned_away_together_come_back_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("service.client.client.time.sleep", pauses.append)
    with answering(Busy()) as client:
        for _ in range(5):
            with pytest.raises(OverloadError):
                client.recommend(WATERLOO)
    firsts = [pause for pause in pauses if pause <= 1]  # the second one is twice as long or more
    assert len(set(firsts)) == 5
    assert min(firsts) >= 0.5
