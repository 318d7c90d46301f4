"""The service switches to new releases, and keeps the old one if a new one cannot be opened."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
import numpy as np
import pytest

from catalog import reranker
from catalog.errors import CorruptReleaseError, EngineError, UnavailableError
from catalog.manifest import StoredReranker
from nextsong.v1 import recommender_pb2 as pb
from nextsong.v1 import recommender_pb2_grpc
from service.client.client import Client
from tests.support.fakes import FakeRelease, FakeStore, publish
from tests.support.rpc_servers import (
    PATIENCE_S,
    POINTS,
    WATERLOO,
    Call,
    Loop,
    SlowRelease,
    damage,
    wait_until,
)

if TYPE_CHECKING:
    from catalog.embedded.store import EmbeddedStore
    from catalog.model import Point

pytestmark = pytest.mark.slow


class Caller(threading.Thread):
    """Calls methods in turn until `ended` is set.

    Records the release and the titles of each response.
    """

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
        recommended = stub.Recommend(pb.RecommendRequest(seeds=seeds, limit=50), timeout=PATIENCE_S)
        songs = [recommended.songs[0].song, recommended.seeds[0].song, recommended.songs[-1].song]
        self._keep(recommended.release, *songs)
        similar = stub.SimilarSongs(pb.SimilarSongsRequest(song=self._seed), timeout=PATIENCE_S)
        self._keep(similar.release, similar.song, *(hit.song for hit in similar.songs))
        search = stub.SearchSongs(pb.SearchSongsRequest(query="the"), timeout=PATIENCE_S)
        self._keep(search.release, *search.songs)
        described = stub.GetRelease(pb.GetReleaseRequest(), timeout=PATIENCE_S)
        self._keep(described.release.id)

    def _keep(self, release: str, *songs: pb.Song) -> None:
        self.answers.append((release, [song.title for song in songs]))


def build_second_edition(points: list[Point]) -> list[Point]:
    """Return the same songs and vectors with different titles, which identify the release."""
    return [
        replace(point, song=replace(point.song, title=f"{point.song.title} (2)"))
        for point in points
    ]


def test_a_switch_under_load_fails_no_call_and_mixes_no_releases(
    loop: Loop, store: EmbeddedStore, best_known: list[Point]
) -> None:
    first = store.current()
    seed = pb.Seed(song_id=str(best_known[0].song.song_id))
    with loop.serve(store) as server:
        callers = [Caller(server.address, seed) for _ in range(2)]
        for caller in callers:
            caller.start()
        try:
            wait_until(lambda: all(caller.answers for caller in callers))
            second = publish(store, build_second_edition(best_known)).release
            wait_until(lambda: all(caller.answers[-1][0] == second for caller in callers))
        finally:
            for caller in callers:
                caller.ended.set()
                caller.join(PATIENCE_S)
    for caller in callers:
        assert caller.failures == []
        releases = [release for release, _ in caller.answers]
        assert set(releases) == {first, second}
        assert releases == sorted(releases), (
            "a response of the old release came after one of the new release"
        )
        for release, titles in caller.answers:
            assert {title.endswith(" (2)") for title in titles} <= {release == second}


def test_a_corrupt_release_is_skipped_and_the_next_one_is_served(
    loop: Loop, store: EmbeddedStore, best_known: list[Point], caplog: pytest.LogCaptureFixture
) -> None:
    good = store.current()
    assert good is not None
    with loop.serve(store) as server, Client(server.address) as client:
        point_at(store, create_damaged_copy(store, good))
        wait_until(lambda: "is damaged" in caplog.text)
        assert f"release {good} stays in use" in caplog.text
        time.sleep(0.1)  # time for a few more checks
        assert caplog.text.count("stays in use") == 1
        assert client.get_release().release.id == good
        better = publish(store, best_known).release
        wait_until(lambda: client.get_release().release.id == better)


def create_damaged_copy(store: EmbeddedStore, release: str) -> str:
    name = "20990101T000000000-damaged"
    shutil.copytree(store.path / "releases" / release, store.path / "releases" / name)
    manifest = replace(store.manifest(release), release=name)
    (store.path / "releases" / name / "manifest.json").write_text(manifest.to_json(), "utf-8")
    damage(store, name)
    return name


def point_at(store: EmbeddedStore, release: str) -> None:
    partial = store.path / "pointer"
    partial.write_text(f"{release}\n", "utf-8")
    partial.replace(store.path / "current")


@pytest.mark.parametrize("name", ["20990101T000000000-missing", "../../elsewhere", "caf\u00e9"])
def test_a_pointer_to_a_missing_release_changes_nothing(
    loop: Loop, store: EmbeddedStore, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    good = store.current()
    with loop.serve(store) as server, Client(server.address) as client:
        point_at(store, name)
        wait_until(lambda: "stays in use" in caplog.text)
        time.sleep(0.1)  # time for a few more checks
        assert caplog.text.count("stays in use") == 1
        assert client.get_release().release.id == good


def test_a_rollback_is_followed(loop: Loop) -> None:
    store = FakeStore(FakeRelease(POINTS, name="1"))
    with loop.serve(store) as server:
        store.put("2", FakeRelease(POINTS, name="2"))
        wait_until(lambda: server.release.manifest.release == "2")
        store.put("1", FakeRelease(POINTS, name="1"))
        wait_until(lambda: server.release.manifest.release == "1")


@pytest.mark.parametrize(
    "failure",
    [CorruptReleaseError("x"), EngineError("x"), PermissionError("x"), KeyError()],
    ids=["corrupt", "engine", "unforeseen", "a bug"],
)
def test_no_failure_ends_the_release_watcher(
    loop: Loop, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    store = FakeStore(FakeRelease(POINTS, name="1"))
    with loop.serve(store) as server:
        store.put("2", failure)
        wait_until(lambda: "release 1 stays in use" in caplog.text)
        time.sleep(0.1)  # time for a few more checks, which do not try release 2 again
        store.put("3", FakeRelease(POINTS, name="3"))
        wait_until(lambda: server.release.manifest.release == "3")
    assert store.opened == ["1", "2", "3"]


class SlowStore(FakeStore):
    """A store that opens releases only while `may_open` is set."""

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
    store = SlowStore(FakeRelease(POINTS, name="1"))
    with loop.serve(store) as server, Client(server.address) as client:
        store.opening.clear()
        store.may_open.clear()
        store.put("2", FakeRelease(POINTS, name="2"))
        assert store.opening.wait(PATIENCE_S)
        try:
            assert client.recommend(WATERLOO).release == "1"
        finally:
            store.may_open.set()
        wait_until(lambda: client.get_release().release.id == "2")


def test_switches_of_releases_are_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nextsong.service")
    store = FakeStore(FakeRelease(POINTS, name="1"))
    with loop.serve(store):
        store.put("2", FakeRelease(POINTS, name="2"))
        wait_until(lambda: "now serving release 2" in caplog.text)


def test_a_call_keeps_its_release_which_is_closed_afterwards(loop: Loop) -> None:
    old = SlowRelease(POINTS, name="old")
    store = FakeStore(old)
    reference = weakref.ref(old)
    with loop.serve(store) as server, Client(server.address, PATIENCE_S) as client:
        call = Call(client)
        assert old.was_searched.wait(PATIENCE_S)
        store.put("new", FakeRelease(POINTS, name="new"))
        store.forget("old")
        wait_until(lambda: client.get_release().release.id == "new")
        assert not old.closed
        old.may_answer.set()
        call.join(PATIENCE_S)
        assert call.answer is not None
        assert call.answer.release == "old"
        assert client.recommend(WATERLOO).release == "new"
        assert old.closed
        del old
        gc.collect()
        assert reference() is None


class FakeReranker:
    """A fake re-ranker. `loaded_by` lists the threads that loaded it."""

    loaded_by: ClassVar[list[threading.Thread]] = []
    fields: ClassVar[list[str]] = []
    has_current_features = True

    def __init__(self, _model: str) -> None:
        self.loaded_by.append(threading.current_thread())

    def score(self, table: Any) -> Any:
        return np.ones(len(table))


def build_release_with_reranker(name: str, stored: StoredReranker) -> FakeRelease:
    release = FakeRelease(POINTS, name=name, strengths={0: {1: 1.0}})
    parameters = release.manifest.origin.parameters | {"mode": "ranked"}
    origin = replace(release.manifest.origin, parameters=parameters)
    release.manifest = replace(release.manifest, ranker=stored, origin=origin)
    return release


def test_a_reranker_is_loaded_before_its_release_answers(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranker, "Reranker", FakeReranker)
    threads = FakeReranker.loaded_by
    threads.clear()
    reranker.load_reranker.cache_clear()
    store = FakeStore(build_release_with_reranker("first", StoredReranker(*reranker.pack("first"))))
    with loop.serve(store) as server, Client(server.address) as client:
        assert len(threads) == 1
        assert client.recommend(WATERLOO).mode == pb.MODE_RANKED
        store.put(
            "second",
            build_release_with_reranker("second", StoredReranker(*reranker.pack("second"))),
        )
        wait_until(lambda: client.get_release().release.id == "second")
        assert len(threads) == 2
        assert threads[1] is not loop.thread
        assert client.recommend(WATERLOO).mode == pb.MODE_RANKED
    assert len(threads) == 2
    reranker.load_reranker.cache_clear()


def test_a_release_with_a_damaged_reranker_is_not_served(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    store = FakeStore(FakeRelease(POINTS, name="good"))
    damaged = build_release_with_reranker(
        "bad", replace(StoredReranker(*reranker.pack("model")), sha256="0")
    )
    with loop.serve(store) as server, Client(server.address) as client:
        store.put("bad", damaged)
        wait_until(
            lambda: "the re-ranker in the manifest is not as it was published" in caplog.text
        )
        assert client.recommend(WATERLOO).release == "good"
    assert damaged.closed


class DisappearingStore(FakeStore):
    """A store whose query for the current release fails once `may_answer` is set."""

    def __init__(self) -> None:
        super().__init__(FakeRelease(POINTS))
        self.was_queried, self.may_answer = threading.Event(), threading.Event()

    def current(self) -> str | None:
        self.was_queried.set()
        self.may_answer.wait(PATIENCE_S)
        raise UnavailableError("the store cannot be reached")


def test_a_check_that_fails_after_the_stop_is_not_logged(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    store = DisappearingStore()
    with loop.serve(store):
        assert store.was_queried.wait(PATIENCE_S)
    store.may_answer.set()

    async def wait_for_other_tasks() -> None:
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    loop.run(wait_for_other_tasks())
    gc.collect()
    assert "never retrieved" not in caplog.text
