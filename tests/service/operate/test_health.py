"""Health says whether calls can be answered, and what could not be opened is tried again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qdrant_client import models

from catalog.errors import (
    CorruptReleaseError,
    EngineError,
    NoReleaseError,
    StorageError,
    UnavailableError,
)
from catalog.model import ANY
from catalog.progress import SilentReporter
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.operate import watcher
from service.rpc.server import ALIVE
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.qdrant_servers import memory_store
from tests.support.rpc_calls import ask, reason, refused
from tests.support.rpc_servers import PATIENCE_S, POINTS, SERVING, WATERLOO, Loop, until

if TYPE_CHECKING:
    from catalog.model import Filter, Point
    from catalog.server.store import ServerStore
    from tests.support.store_content import Content


def healthy(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        return bool(check.status == SERVING)


def outcome(address: str, request: pb.RecommendRequest = WATERLOO) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            recommender_pb2_grpc.RecommenderStub(channel).Recommend(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def searched(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            stub.SearchSongs(pb.SearchSongsRequest(query="a"), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


@pytest.fixture
def home(content: Content) -> ServerStore:
    home = memory_store()
    home.publish(content.draft, SilentReporter())
    return home


def test_a_server_that_lost_everything(
    loop: Loop, home: ServerStore, content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    with loop.serve(home) as server:
        assert (searched(server.address), healthy(server.address)) == ("OK", True)
        home.nodes.request(
            "", lambda client: client.delete_collection(home.collection(home.current() or ""))
        )
        assert searched(server.address) == "UNAVAILABLE"
        until(lambda: not healthy(server.address))
        assert "has no current release any more" in caplog.text
        home.publish(content.draft, SilentReporter())
        until(lambda: healthy(server.address))
        assert searched(server.address) == "OK"


def test_an_alias_that_is_gone(loop: Loop, home: ServerStore, content: Content) -> None:
    gone = models.DeleteAliasOperation(
        delete_alias=models.DeleteAlias(alias_name=home.options.prefix)
    )
    with loop.serve(home) as server:
        release = home.current() or ""
        home.nodes.request("", lambda client: client.update_collection_aliases([gone]))
        until(lambda: not healthy(server.address))
        home._move_alias(release)
        until(lambda: healthy(server.address))


class Refusing(FakeStore):
    """May refuse to say what is current."""

    refusal: Exception | None = None

    def current(self) -> str | None:
        if self.refusal:
            raise self.refusal
        return super().current()


class Answering(FakeRelease):
    """May fail to answer."""

    failure: Exception | None = None

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        if self.failure:
            raise self.failure
        return await super().popular(limit, where)


def test_a_key_that_is_refused(loop: Loop) -> None:
    release = Answering(POINTS)
    home = Refusing(release)
    with loop.serve(home) as server:
        home.refusal = release.failure = EngineError("Qdrant refuses with this API key")
        until(lambda: not healthy(server.address))
        home.refusal = release.failure = None
        until(lambda: healthy(server.address))


@pytest.mark.parametrize("refusal", [CorruptReleaseError("a bad pointer"), StorageError("EMFILE")])
def test_a_pointer_that_cannot_be_read_harms_no_call(loop: Loop, refusal: Exception) -> None:
    home = Refusing(FakeRelease(POINTS))
    with loop.serve(home) as server:
        home.refusal = refusal
        time.sleep(0.1)  # a few looks
        assert healthy(server.address)
        assert outcome(server.address) == "OK"


def test_a_call_that_fails_makes_it_look_at_once(loop: Loop) -> None:
    release = Answering(POINTS)
    nobody = pb.RecommendRequest(seeds=[pb.Seed(artist="Nobody", title="?")])
    with loop.serve(FakeStore(release), look_every=3600) as server:
        assert outcome(server.address, nobody) == "OK"
        release.failure = CorruptReleaseError("gone")
        assert outcome(server.address, nobody) == "UNAVAILABLE"
        until(lambda: not healthy(server.address))


class Once(FakeStore):
    """Cannot open release 2 as often as it says."""

    failures = 2
    tried = 0

    def open(self, release: str | None = None) -> FakeRelease:
        if release == "2":
            self.tried += 1
            if self.tried <= self.failures:
                raise OSError(24, "Too many open files")
        return super().open(release)


def test_what_could_not_be_opened_for_once_is_tried_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher, "FIRST_PAUSE_S", 0.1)
    home = Once(FakeRelease(POINTS, name="1"))
    with loop.serve(home) as server:
        home.put("2", FakeRelease(POINTS, name="2"))
        until(lambda: server.release.manifest.release == "2")
        assert healthy(server.address)
    assert home.tried == 3
    assert caplog.text.count("stay on release 1") == 1


def test_it_is_alive_though_it_cannot_answer(loop: Loop) -> None:
    release = Answering(POINTS)
    with loop.serve(FakeStore(release)) as server, grpc.insecure_channel(server.address) as channel:
        release.failure = EngineError("away")
        until(lambda: not healthy(server.address))
        stub = health_pb2_grpc.HealthStub(channel)
        alive = stub.Check(health_pb2.HealthCheckRequest(service=ALIVE), timeout=PATIENCE_S)
        assert alive.status == SERVING


class Away(FakeStore):
    """Can be away."""

    away = False

    def current(self) -> str | None:
        if self.away:
            raise UnavailableError("the home does not answer")
        return super().current()

    def open(self, release: str | None = None) -> FakeRelease:
        if self.away:
            raise UnavailableError("the home does not answer")
        return super().open(release)


def test_health_says_that_the_home_is_away_and_that_it_is_back(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    home = Away(FakeRelease(POINTS))
    with loop.serve(home) as server:
        assert healthy(server.address)
        home.away = True
        until(lambda: not healthy(server.address))
        time.sleep(0.1)  # a few more looks
        assert caplog.text.count("the home of releases is away") == 1
        home.away = False
        until(lambda: healthy(server.address))
        home.put("2", FakeRelease(POINTS, name="2"))
        until(lambda: ask(server.address)[0].release == "2")


def test_a_server_may_wait_for_its_first_release(loop: Loop) -> None:
    home = Away(FakeRelease(POINTS))
    home.away = True
    with loop.serve(home, wait=True) as server:
        assert not healthy(server.address)
        error = refused(server.address)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(error) == "NO_RELEASE"
        home.away = False
        until(lambda: healthy(server.address))
        assert ask(server.address)[0].songs
    home.put("none", NoReleaseError("none yet"))
    with loop.serve(home, wait=True) as server:
        assert not healthy(server.address)
