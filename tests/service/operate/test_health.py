"""Health status, which follows the release store, and new attempts to open failed releases."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qdrant_client import models

from catalog.console.progress import SilentReporter
from catalog.errors import (
    CorruptReleaseError,
    EngineError,
    NoReleaseError,
    StorageError,
    UnavailableError,
)
from catalog.model import ANY
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.operate import watcher
from service.rpc.health import ALIVE
from tests.support.fakes import FakeRelease, FakeStore
from tests.support.qdrant_servers import memory_store
from tests.support.rpc_calls import call_recommend, get_refusal, read_reason
from tests.support.rpc_servers import PATIENCE_S, POINTS, SERVING, WATERLOO, Loop, wait_until

if TYPE_CHECKING:
    from catalog.model import Filter, Point
    from catalog.server.store import ServerStore
    from tests.support.store_content import Content


def is_healthy(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        check = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        return bool(check.status == SERVING)


def get_status(address: str, request: pb.RecommendRequest = WATERLOO) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            recommender_pb2_grpc.RecommenderStub(channel).Recommend(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def get_search_status(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            stub.SearchSongs(pb.SearchSongsRequest(query="a"), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


@pytest.fixture
def store(content: Content) -> ServerStore:
    store = memory_store()
    store.publish(content.draft, SilentReporter())
    return store


def test_health_follows_a_store_that_loses_its_releases(
    loop: Loop, store: ServerStore, content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    with loop.serve(store) as server:
        assert (get_search_status(server.address), is_healthy(server.address)) == ("OK", True)
        store.nodes.request(
            "", lambda client: client.delete_collection(store.collection(store.current() or ""))
        )
        assert get_search_status(server.address) == "UNAVAILABLE"
        wait_until(lambda: not is_healthy(server.address))
        wait_until(lambda: "has no current release any more" in caplog.text)
        store.publish(content.draft, SilentReporter())
        wait_until(lambda: is_healthy(server.address))
        assert get_search_status(server.address) == "OK"


def test_health_follows_a_lost_alias(loop: Loop, store: ServerStore, content: Content) -> None:
    operation = models.DeleteAliasOperation(
        delete_alias=models.DeleteAlias(alias_name=store.options.prefix)
    )
    with loop.serve(store) as server:
        release = store.current() or ""
        store.nodes.request("", lambda client: client.update_collection_aliases([operation]))
        wait_until(lambda: not is_healthy(server.address))
        store._move_alias(release)
        wait_until(lambda: is_healthy(server.address))


class FailingStore(FakeStore):
    """A store that raises `refusal` instead of returning the current release."""

    refusal: Exception | None = None

    def current(self) -> str | None:
        if self.refusal:
            raise self.refusal
        return super().current()


class FailingRelease(FakeRelease):
    """A release whose queries raise `failure`."""

    failure: Exception | None = None

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        if self.failure:
            raise self.failure
        return await super().popular(limit, where)


def test_health_follows_a_refused_api_key(loop: Loop) -> None:
    release = FailingRelease(POINTS)
    store = FailingStore(release)
    with loop.serve(store) as server:
        store.refusal = release.failure = EngineError("Qdrant refuses with this API key")
        wait_until(lambda: not is_healthy(server.address))
        store.refusal = release.failure = None
        wait_until(lambda: is_healthy(server.address))


@pytest.mark.parametrize("refusal", [CorruptReleaseError("a bad pointer"), StorageError("EMFILE")])
def test_an_unreadable_pointer_fails_no_call(loop: Loop, refusal: Exception) -> None:
    store = FailingStore(FakeRelease(POINTS))
    with loop.serve(store) as server:
        store.refusal = refusal
        time.sleep(0.1)  # time for a few checks
        assert is_healthy(server.address)
        assert get_status(server.address) == "OK"


def test_a_failed_call_starts_a_check_at_once(loop: Loop) -> None:
    release = FailingRelease(POINTS)
    nobody = pb.RecommendRequest(seeds=[pb.Seed(artist="Nobody", title="?")])
    with loop.serve(FakeStore(release), look_every=3600) as server:
        assert get_status(server.address, nobody) == "OK"
        release.failure = CorruptReleaseError("gone")
        assert get_status(server.address, nobody) == "UNAVAILABLE"
        wait_until(lambda: not is_healthy(server.address))


class FlakyStore(FakeStore):
    """A store that fails to open release 2 the first `failures` times."""

    failures = 2
    tried = 0

    def open(self, release: str | None = None) -> FakeRelease:
        if release == "2":
            self.tried += 1
            if self.tried <= self.failures:
                raise OSError(24, "Too many open files")
        return super().open(release)


def test_a_release_that_could_not_be_opened_is_tried_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher, "FIRST_PAUSE_S", 0.1)
    store = FlakyStore(FakeRelease(POINTS, name="1"))
    with loop.serve(store) as server:
        store.put("2", FakeRelease(POINTS, name="2"))
        wait_until(lambda: server.release.manifest.release == "2")
        assert is_healthy(server.address)
    assert store.tried == 3
    assert caplog.text.count("release 1 stays in use") == 1


def test_liveness_is_serving_even_if_no_call_can_be_answered(loop: Loop) -> None:
    release = FailingRelease(POINTS)
    with loop.serve(FakeStore(release)) as server, grpc.insecure_channel(server.address) as channel:
        release.failure = EngineError("away")
        wait_until(lambda: not is_healthy(server.address))
        stub = health_pb2_grpc.HealthStub(channel)
        alive = stub.Check(health_pb2.HealthCheckRequest(service=ALIVE), timeout=PATIENCE_S)
        assert alive.status == SERVING


class UnreachableStore(FakeStore):
    """A store that cannot be reached while `is_unreachable` is set."""

    is_unreachable = False

    def current(self) -> str | None:
        if self.is_unreachable:
            raise UnavailableError("the store does not answer")
        return super().current()

    def open(self, release: str | None = None) -> FakeRelease:
        if self.is_unreachable:
            raise UnavailableError("the store does not answer")
        return super().open(release)


def test_health_follows_an_unreachable_store(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    store = UnreachableStore(FakeRelease(POINTS))
    with loop.serve(store) as server:
        assert is_healthy(server.address)
        store.is_unreachable = True
        wait_until(lambda: not is_healthy(server.address))
        time.sleep(0.1)  # time for a few more checks
        assert caplog.text.count("the release store cannot be reached") == 1
        store.is_unreachable = False
        wait_until(lambda: is_healthy(server.address))
        store.put("2", FakeRelease(POINTS, name="2"))
        wait_until(lambda: call_recommend(server.address)[0].release == "2")


def test_a_server_can_wait_for_its_first_release(loop: Loop) -> None:
    store = UnreachableStore(FakeRelease(POINTS))
    store.is_unreachable = True
    with loop.serve(store, wait=True) as server:
        assert not is_healthy(server.address)
        error = get_refusal(server.address)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert read_reason(error) == "NO_RELEASE"
        store.is_unreachable = False
        wait_until(lambda: is_healthy(server.address))
        assert call_recommend(server.address)[0].songs
    store.put("none", NoReleaseError("none yet"))
    with loop.serve(store, wait=True) as server:
        assert not is_healthy(server.address)
