"""The server on a real channel: answers, refusals, health, new releases, and its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from catalog.embedded import EmbeddedHome
from catalog.errors import (
    BusyError,
    CorruptReleaseError,
    EngineError,
    NextsongError,
    NoReleaseError,
    RequestError,
    UnavailableError,
    UnknownSongError,
)
from catalog.release import ANY
from fakes import FakeHome, FakeRelease, points_of, publish
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service import server as serving
from service.client import Client, Direct
from service.server import SERVICE, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Future

    from catalog.release import Filter, Hit, Home, Point, Vector
    from conftest import Road

PATIENCE_S = 20.0
NOBODY = "00000000-0000-0000-0000-000000000001"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

POINTS = points_of(("ABBA", "Waterloo", 2, (1, 0)), ("ABBA", "Fernando", 1, (0, 1)))
WATERLOO = pb.RecommendRequest(seeds=[pb.Seed(artist="ABBA", title="Waterloo")])


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come soon."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


class Loop:
    """An event loop in a thread: all of gRPC's asynchronous calls in one process share one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def start(self, task: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(task, self._loop)

    def run(self, task: Coroutine[Any, Any, Any]) -> Any:
        return self.start(task).result(PATIENCE_S)

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    @contextmanager
    def serve(self, home: Home, port: int = 0) -> Iterator[Server]:
        """A server, stopped at the end where the test has not done so."""
        server = self.run(self._started(home, port))
        try:
            yield server
        finally:
            self.run(server.stop())

    async def _started(self, home: Home, port: int) -> Server:
        server = Server(home, "127.0.0.1", port)
        await server.start()
        return server


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(serving, "GRACE_S", 0.5)


@pytest.fixture
def home(road: Road, tmp_path: Path) -> EmbeddedHome:
    """A copy of the road's home, to publish in."""
    shutil.copytree(road.home.path, tmp_path / "home")
    return EmbeddedHome(tmp_path / "home")


@pytest.fixture(scope="module")
def address(road: Road, loop: Loop) -> Iterator[str]:
    """A server on the road's home that no test disturbs."""
    with loop.serve(road.home) as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture(scope="module")
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(scope="module")
def best_known(road: Road) -> list[Point]:
    release = road.home.open()
    points = asyncio.run(release.popular(10_000))
    release.close()
    return points


# The four methods


def test_all_methods_answer_as_the_release_does_without_a_server(
    client: Client, road: Road, best_known: list[Point]
) -> None:
    song = best_known[0].song
    seeds = [pb.Seed(song_id=str(point.song.song_id)) for point in best_known[:3]]
    recommend = pb.RecommendRequest(seeds=seeds, limit=7)
    similar = pb.SimilarSongsRequest(song=pb.Seed(artist=song.artist, title=song.title))
    search = pb.SearchSongsRequest(query=song.artist)
    with Direct(road.home.open()) as direct:
        assert client.recommend(recommend) == direct.recommend(recommend)
        assert client.similar_songs(similar) == direct.similar_songs(similar)
        assert client.search_songs(search) == direct.search_songs(search)
        assert client.get_release() == direct.get_release()


def test_answers_are_full(client: Client, road: Road, best_known: list[Point]) -> None:
    song = best_known[0].song
    recommended = client.recommend(
        pb.RecommendRequest(seeds=[pb.Seed(song_id=str(song.song_id))], limit=500)
    )
    assert len(recommended.songs) == len(best_known) - 1
    assert recommended.seeds[0].song.title == song.title
    similar = client.similar_songs(pb.SimilarSongsRequest(song=pb.Seed(song_id=str(song.song_id))))
    assert (similar.song.title, len(similar.songs)) == (song.title, 10)
    found = client.search_songs(pb.SearchSongsRequest(query=f"{song.artist} {song.title}"))
    assert str(song.song_id) in [one.song_id for one in found.songs]
    release = client.get_release().release
    assert release.songs == len(best_known)
    assert {release.id, recommended.release, similar.release, found.release} == {
        road.outcome.manifest.release
    }


def test_asynchronous_callers_are_answered_side_by_side(
    loop: Loop, address: str, best_known: list[Point]
) -> None:
    requests = [
        pb.RecommendRequest(seeds=[pb.Seed(song_id=str(point.song.song_id))], limit=1)
        for point in best_known[:50]
    ]

    async def ask_all() -> list[pb.RecommendResponse]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            return await asyncio.gather(
                *(stub.Recommend(request, timeout=PATIENCE_S) for request in requests)
            )

    for request, response in zip(requests, loop.run(ask_all()), strict=True):
        assert response.seeds[0].song.song_id == request.seeds[0].song_id


# Refusals


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RecommendRequest(), "seeds"),
        (pb.RecommendRequest(seeds=WATERLOO.seeds, limit=-1), "limit"),
        (pb.RecommendRequest(seeds=WATERLOO.seeds, limit=2**31 - 1), "limit"),
        (pb.RecommendRequest(seeds=[pb.Seed(song_id="x")]), "seeds[0].song_id"),
        (pb.RecommendRequest(seeds=[pb.Seed(song_id="\U0001f3b5" * 40)]), "seeds[0].song_id"),
        (
            pb.RecommendRequest(
                seeds=WATERLOO.seeds, filter=pb.Filter(exclude_song_ids=[NOBODY, "\0%41\n"])
            ),
            "filter.exclude_song_ids[1]",
        ),
    ],
)
def test_a_refusal_names_the_field_in_its_details(
    channel: grpc.Channel, request_: pb.RecommendRequest, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        recommender_pb2_grpc.RecommenderStub(channel).Recommend(request_, timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert info.reason == "REQUEST"
    assert status.details[1].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == [field]
    assert caught.value.details() == f"{field}: {bad.field_violations[0].description}"


def test_the_client_raises_what_the_service_refused(client: Client) -> None:
    for call, field in [
        (lambda: client.recommend(pb.RecommendRequest()), "seeds"),
        (lambda: client.similar_songs(pb.SimilarSongsRequest()), "song"),
        (lambda: client.search_songs(pb.SearchSongsRequest(query=" ")), "query"),
    ]:
        with pytest.raises(RequestError) as caught:
            call()
        assert caught.value.field == field


@pytest.mark.parametrize(
    "name", ["nobody", "x" * 3_000, "x" * 100_000, "\U0001f3b5" * 10_000, "a\0b", "50%\u202e"]
)
def test_similar_songs_of_an_unknown_song_are_not_found(client: Client, name: str) -> None:
    with pytest.raises(UnknownSongError, match="the catalog has no song"):
        client.similar_songs(pb.SimilarSongsRequest(song=pb.Seed(artist=name, title=name)))


def test_an_unknown_id_is_not_found(channel: grpc.Channel) -> None:
    stub = recommender_pb2_grpc.RecommenderStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.SimilarSongs(pb.SimilarSongsRequest(song=pb.Seed(song_id=NOBODY)), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert NOBODY in (caught.value.details() or "")


def test_the_largest_request_is_answered(client: Client) -> None:
    seeds = [pb.Seed(artist=f"{place} " + "x" * 990, title="y" * 1_000) for place in range(1_000)]
    where = pb.Filter(exclude_song_ids=[NOBODY] * 10_000)
    response = client.recommend(pb.RecommendRequest(seeds=seeds, limit=500, filter=where))
    assert response.strategy == pb.STRATEGY_POPULAR
    assert len(response.seeds) == 1_000


class Broken(FakeRelease):
    """Fails as `failure` says, once it is opened."""

    failure: Exception = EngineError("disk /var/secret")

    async def nearest(self, vector: Vector, limit: int, where: Filter = ANY) -> list[Hit]:
        raise self.failure


@pytest.mark.parametrize("failure", [EngineError("disk /var/secret"), KeyError("/var/secret")])
def test_failures_inside_are_logged_and_not_told(
    loop: Loop, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    release = Broken(POINTS)
    release.failure = failure
    with (
        loop.serve(FakeHome(release)) as server,
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        recommender_pb2_grpc.RecommenderStub(channel).Recommend(WATERLOO, timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    assert "secret" not in str(caught.value.trailing_metadata())
    assert "/var/secret" in caplog.text


# The client and the network


def test_the_client_says_when_nothing_listens() -> None:
    with socket.socket() as taken:  # bound, and so nobody else's, but not listening
        taken.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        with (
            Client(f"127.0.0.1:{taken.getsockname()[1]}") as client,
            pytest.raises(UnavailableError, match="Failed to connect"),
        ):
            client.recommend(WATERLOO)
        assert time.monotonic() - begun < 5


def test_the_client_gives_up_in_time(loop: Loop) -> None:
    stuck = Slow(POINTS)
    with (
        loop.serve(FakeHome(stuck)) as server,
        Client(server.address, timeout=0.2) as client,
        pytest.raises(UnavailableError, match="Deadline Exceeded"),
    ):
        client.recommend(WATERLOO)


def test_the_client_finds_a_server_that_was_started_anew(loop: Loop) -> None:
    home = FakeHome(FakeRelease(POINTS))
    with loop.serve(home) as server:
        client = Client(server.address)
        client.recommend(WATERLOO)
    with loop.serve(home, server.port), client:
        client.recommend(WATERLOO)


class Flaky(FakeRelease):
    """Is busy for the first `failures` calls."""

    failures = 0

    async def nearest(self, vector: Vector, limit: int, where: Filter = ANY) -> list[Hit]:
        self.failures -= 1
        if self.failures >= 0:
            raise BusyError("busy")
        return await super().nearest(vector, limit, where)


@pytest.mark.parametrize(("failures", "answered"), [(3, True), (4, False)])
def test_the_client_tries_four_times_in_all(loop: Loop, failures: int, answered: bool) -> None:
    release = Flaky(POINTS)
    release.failures = failures
    with loop.serve(FakeHome(release)) as server, Client(server.address) as client:
        if answered:
            assert client.recommend(WATERLOO).release == "fake"
        else:
            with pytest.raises(UnavailableError, match="busy"):
                client.recommend(WATERLOO)
    assert release.failures == (-1 if answered else 0)


# Health and reflection


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_is_serving(channel: grpc.Channel, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert stub.Check(request, timeout=PATIENCE_S).status == SERVING


def test_health_of_another_service_is_not_found(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_is_not_serving_once_the_stop_begins(loop: Loop, service: str) -> None:
    async def watch() -> list[int]:
        server = Server(FakeHome(FakeRelease(POINTS)), "127.0.0.1", 0)
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watching = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            seen = [(await watching.read()).status]
            stopping = asyncio.create_task(server.stop())
            seen.append((await watching.read()).status)
            assert not stopping.done()
            await stopping
        return seen

    assert loop.run(watch()) == [SERVING, NOT_SERVING]


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "nextsong.v1.Recommender",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    file = database.FindFileContainingSymbol("nextsong.v1.Recommender")
    assert [method.name for method in file.service[0].method] == [
        "Recommend",
        "SimilarSongs",
        "SearchSongs",
        "GetRelease",
    ]


# Starting


def test_a_port_that_is_taken_is_noticed_and_the_release_let_go(loop: Loop) -> None:
    release = FakeRelease(POINTS)

    async def second(port: int) -> None:
        Server(FakeHome(release), "127.0.0.1", port)

    with loop.serve(FakeHome(FakeRelease(POINTS))) as server:
        with pytest.raises(BusyError, match=f"cannot listen on 127.0.0.1:{server.port}: the port"):
            loop.run(second(server.port))
        assert release.closed
        with Client(server.address) as client:
            client.recommend(WATERLOO)


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
def test_hosts_may_be_given_in_any_form(loop: Loop, host: str) -> None:
    if "::1" in host and not ipv6():
        pytest.skip("no IPv6 here")

    async def answer() -> None:
        server = Server(FakeHome(FakeRelease(POINTS)), host, 0)
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            await stub.GetRelease(pb.GetReleaseRequest(), timeout=PATIENCE_S)
        await server.stop()
        assert server.address == f"{'[::1]' if '::1' in host else host}:{server.port}"

    loop.run(answer())


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_without_a_release_there_is_no_server(tmp_path: Path) -> None:
    async def start() -> None:
        Server(EmbeddedHome(tmp_path / "nothing"), "127.0.0.1", 0)

    with pytest.raises(NoReleaseError, match="no release in"):
        asyncio.run(start())


def test_a_corrupt_release_is_noticed_at_the_start(home: EmbeddedHome) -> None:
    async def start() -> None:
        Server(home, "127.0.0.1", 0)

    release = home.current()
    assert release is not None
    damage(home, release)
    with pytest.raises(CorruptReleaseError, match=f"release {release} is damaged"):
        asyncio.run(start())


def damage(home: EmbeddedHome, release: str) -> None:
    """Turn one bit of the largest file of a release."""
    files = (home.path / "releases" / release / "shard").rglob("*")
    largest = max((file for file in files if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


# New releases


class Caller(threading.Thread):
    """Calls all methods in turn until told to end, keeping (release, titles) of every answer."""

    def __init__(self, address: str, seed: pb.Seed) -> None:
        super().__init__()
        self.answers: list[tuple[str, list[str]]] = []
        self.failures: list[Exception] = []
        self.ended = threading.Event()
        self._address = address
        self._seed = seed

    def run(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            while not self.ended.is_set():
                time.sleep(0.002)
                try:
                    self._call_all(stub)
                except Exception as error:  # noqa: BLE001
                    self.failures.append(error)

    def _call_all(self, stub: Any) -> None:
        seeds = [self._seed]
        one = stub.Recommend(pb.RecommendRequest(seeds=seeds, limit=50), timeout=PATIENCE_S)
        self._keep(one.release, one.songs[0].song, one.seeds[0].song, one.songs[-1].song)
        two = stub.SimilarSongs(pb.SimilarSongsRequest(song=self._seed), timeout=PATIENCE_S)
        self._keep(two.release, two.song, *(hit.song for hit in two.songs))
        three = stub.SearchSongs(pb.SearchSongsRequest(query="the"), timeout=PATIENCE_S)
        self._keep(three.release, *three.songs)
        four = stub.GetRelease(pb.GetReleaseRequest(), timeout=PATIENCE_S)
        self._keep(four.release.id)

    def _keep(self, release: str, *songs: pb.Song) -> None:
        self.answers.append((release, [song.title for song in songs]))


def second_edition(points: list[Point]) -> list[Point]:
    """The same songs and vectors under other titles, so that an answer tells where it is from."""
    return [
        replace(point, song=replace(point.song, title=f"{point.song.title} (2)"))
        for point in points
    ]


def test_a_new_release_is_taken_up_under_load_with_no_failed_and_no_mixed_answer(
    loop: Loop, home: EmbeddedHome, best_known: list[Point]
) -> None:
    first = home.current()
    seed = pb.Seed(song_id=str(best_known[0].song.song_id))
    with loop.serve(home) as server:
        callers = [Caller(server.address, seed) for _ in range(2)]
        for caller in callers:
            caller.start()
        try:
            until(lambda: all(caller.answers for caller in callers))
            second = publish(home, second_edition(best_known)).release
            until(lambda: all(caller.answers[-1][0] == second for caller in callers))
        finally:
            for caller in callers:
                caller.ended.set()
                caller.join(PATIENCE_S)
    for caller in callers:
        assert caller.failures == []
        releases = [release for release, _ in caller.answers]
        assert set(releases) == {first, second}
        assert releases == sorted(releases), "it went back"
        for release, titles in caller.answers:
            assert {title.endswith(" (2)") for title in titles} <= {release == second}


def test_a_corrupt_new_release_is_not_taken_up_and_the_next_good_one_is(
    loop: Loop, home: EmbeddedHome, best_known: list[Point], caplog: pytest.LogCaptureFixture
) -> None:
    good = home.current()
    assert good is not None
    with loop.serve(home) as server, Client(server.address) as client:
        point_at(home, damaged_copy(home, good))
        until(lambda: "is damaged" in caplog.text)
        assert f"stay on release {good}" in caplog.text
        time.sleep(0.1)  # a few more looks
        assert caplog.text.count("stay on release") == 1
        assert client.get_release().release.id == good
        better = publish(home, best_known).release
        until(lambda: client.get_release().release.id == better)


def damaged_copy(home: EmbeddedHome, release: str) -> str:
    name = "20990101T000000000-damaged"
    shutil.copytree(home.path / "releases" / release, home.path / "releases" / name)
    manifest = replace(home.manifest(release), release=name)
    (home.path / "releases" / name / "manifest.json").write_text(manifest.to_json(), "utf-8")
    damage(home, name)
    return name


def point_at(home: EmbeddedHome, release: str) -> None:
    partial = home.path / "pointer"
    partial.write_text(f"{release}\n", "utf-8")
    partial.replace(home.path / "current")


@pytest.mark.parametrize("name", ["20990101T000000000-missing", "../../elsewhere", "caf\u00e9"])
def test_a_pointer_at_nothing_changes_nothing(
    loop: Loop, home: EmbeddedHome, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    good = home.current()
    with loop.serve(home) as server, Client(server.address) as client:
        point_at(home, name)
        until(lambda: "stay on release" in caplog.text)
        time.sleep(0.1)  # a few more looks
        assert caplog.text.count("stay on release") == 1
        assert client.get_release().release.id == good


def test_a_rollback_is_followed(loop: Loop) -> None:
    home = FakeHome(FakeRelease(POINTS, name="1"))
    with loop.serve(home) as server:
        home.put("2", FakeRelease(POINTS, name="2"))
        until(lambda: server.release.manifest.release == "2")
        home.put("1", FakeRelease(POINTS, name="1"))
        until(lambda: server.release.manifest.release == "1")


@pytest.mark.parametrize(
    "failure",
    [CorruptReleaseError("x"), EngineError("x"), PermissionError("x"), KeyError()],
    ids=["corrupt", "engine", "unforeseen", "a bug"],
)
def test_no_failure_ends_the_lookout(
    loop: Loop, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    home = FakeHome(FakeRelease(POINTS, name="1"))
    with loop.serve(home) as server:
        home.put("2", failure)
        until(lambda: "stay on release 1" in caplog.text)
        time.sleep(0.1)  # a few more looks, which do not try it again
        home.put("3", FakeRelease(POINTS, name="3"))
        until(lambda: server.release.manifest.release == "3")
    assert home.opened == ["1", "2", "3"]


class Gated(FakeHome):
    """Takes its time to open a release."""

    def __init__(self, release: FakeRelease) -> None:
        super().__init__(release)
        self.opening = threading.Event()
        self.may_open = threading.Event()
        self.may_open.set()

    def open(self, release: str | None = None) -> FakeRelease:
        self.opening.set()
        assert self.may_open.wait(PATIENCE_S)
        return super().open(release)


def test_calls_are_answered_while_a_new_release_is_opened(loop: Loop) -> None:
    home = Gated(FakeRelease(POINTS, name="1"))
    with loop.serve(home) as server, Client(server.address) as client:
        home.opening.clear()
        home.may_open.clear()
        home.put("2", FakeRelease(POINTS, name="2"))
        assert home.opening.wait(PATIENCE_S)
        try:
            assert client.recommend(WATERLOO).release == "1"
        finally:
            home.may_open.set()
        until(lambda: client.get_release().release.id == "2")


def test_news_of_releases_are_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nextsong.service")
    home = FakeHome(FakeRelease(POINTS, name="1"))
    with loop.serve(home):
        home.put("2", FakeRelease(POINTS, name="2"))
        until(lambda: "now serving release 2" in caplog.text)


class Slow(FakeRelease):
    """Answers only once it may."""

    def __init__(self, points: list[Point], name: str = "slow") -> None:
        super().__init__(points, name=name)
        self.asked_for = threading.Event()
        self.may = threading.Event()

    async def nearest(self, vector: Vector, limit: int, where: Filter = ANY) -> list[Hit]:
        self.asked_for.set()
        while not self.may.is_set():
            await asyncio.sleep(0.005)
        return await super().nearest(vector, limit, where)


def test_a_call_keeps_the_release_that_it_began_with_which_is_then_let_go(loop: Loop) -> None:
    old = Slow(POINTS, name="old")
    home = FakeHome(old)
    gone = weakref.ref(old)
    with loop.serve(home) as server, Client(server.address, PATIENCE_S) as client:
        call = Call(client)
        assert old.asked_for.wait(PATIENCE_S)
        home.put("new", FakeRelease(POINTS, name="new"))
        home.forget("old")
        until(lambda: client.get_release().release.id == "new")
        assert not old.closed
        old.may.set()
        call.join(PATIENCE_S)
        assert call.answer is not None
        assert call.answer.release == "old"
        assert client.recommend(WATERLOO).release == "new"
        del old
        gc.collect()
        assert gone() is None


# Ending


class Call(threading.Thread):
    """One call of `Recommend` in a thread of its own: `answer` or `failure` tells its outcome."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.answer: pb.RecommendResponse | None = None
        self.failure: NextsongError | None = None
        self._client = client
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._client.recommend(WATERLOO)
        except NextsongError as error:
            self.failure = error


def turned_away(address: str) -> bool:
    with Client(address) as late:
        try:
            late.get_release()
        except UnavailableError:
            return True
    return False


def test_a_call_under_way_is_finished_before_the_end(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "GRACE_S", PATIENCE_S)
    release = Slow(POINTS)
    with loop.serve(FakeHome(release)) as server, Client(server.address, PATIENCE_S) as client:
        call = Call(client)
        assert release.asked_for.wait(PATIENCE_S)
        stopping = loop.start(server.stop())
        until(lambda: turned_away(server.address))
        assert not stopping.done()
        release.may.set()
        call.join(PATIENCE_S)
        stopping.result(PATIENCE_S)
        assert call.answer is not None
        assert call.answer.release == "slow"


def test_a_call_that_never_ends_does_not_keep_the_server(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "GRACE_S", 0.1)
    release = Slow(POINTS)
    with loop.serve(FakeHome(release)) as server, Client(server.address, PATIENCE_S) as client:
        call = Call(client)
        assert release.asked_for.wait(PATIENCE_S)
        loop.run(server.stop())
        call.join(PATIENCE_S)
        assert isinstance(call.failure, UnavailableError)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_command_serves_until_it_is_told_to_end(
    road: Road, name: str, best_known: list[Point]
) -> None:
    command = [sys.executable, "-m", "evaluation.main", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--home", str(road.home.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        release = road.outcome.manifest.release
        assert line.startswith(f"serving release {release} ({len(best_known):,} songs) on 127.0.")
        address = line.split()[-1]
        seed = pb.Seed(song_id=str(best_known[0].song.song_id))
        with Client(address) as client:
            assert len(client.recommend(pb.RecommendRequest(seeds=[seed])).songs) == 10
            begun = time.monotonic()
            process.send_signal(getattr(signal, name))
            rest, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert time.monotonic() - begun < 5
        assert rest == ""
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()
