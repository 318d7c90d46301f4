"""Listening history: plays are recorded, limited, used for recommendations and removed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from catalog.errors import NoHistoryError, RequestError, SettingsError
from catalog.server.options import QdrantOptions
from nextsong.v1 import recommender_pb2 as pb
from service import settings
from service.client.client import Client
from service.history import DAY_MS, History, now_ms
from tests.support.api_calls import NOBODY, ids
from tests.support.fakes import FakeRelease, FakeStore, points_of
from tests.support.qdrant_servers import AsyncMemoryNodes, MemoryNodes, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rpc_servers import Loop


POINTS = points_of(
    ("ABBA", "Waterloo", 40, (1, 0)),
    ("ABBA", "Fernando", 30, (0.8, 0.6)),
    ("Björk", "Jóga", 20, (0, 1)),
    ("Björk", "Hunter", 10, (-1, 0)),
)
WATERLOO, FERNANDO, JOGA, HUNTER = (point.song.song_id for point in POINTS)


class HistoryFactory:
    """Opens histories that share their stored plays."""

    def __init__(self, options: QdrantOptions, nodes: Any) -> None:
        self._options = options
        self._nodes = nodes
        self.real = nodes is None

    def open(self, plays: int = 3, days: float = 10) -> History:
        return History(self._options, plays, days, nodes=self._nodes)


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.server)])
def histories(request: pytest.FixtureRequest) -> Iterator[HistoryFactory]:
    if request.param == "memory":
        yield HistoryFactory(QdrantOptions((":memory:",)), AsyncMemoryNodes(MemoryNodes()))
        return
    options = options_of(request.getfixturevalue("qdrant_url"), f"t-{uuid4().hex[:8]}")
    yield HistoryFactory(options, None)


def test_the_last_plays_are_kept_in_order(histories: HistoryFactory) -> None:
    async def listen() -> None:
        history = histories.open()
        now = now_ms()
        if histories.real:  # qdrant-client's local mode does not raise the error of a server
            assert await history.recent("ann") == []
            assert not await history.forget("ann")
        await history.record("ann", [(JOGA, now - 10), (WATERLOO, now - 30)])
        await history.record("ann", [(WATERLOO, now - 30)])  # the same play again
        await history.record("bob", [(HUNTER, now)])
        assert await history.recent("ann") == [WATERLOO, JOGA]
        await history.record("ann", [(FERNANDO, now - 20), (HUNTER, now - 5)])
        assert await history.recent("ann") == [FERNANDO, JOGA, HUNTER]
        assert await histories.open(plays=2).recent("ann") == [JOGA, HUNTER]
        assert await history.forget("ann")
        assert await history.recent("ann") == []
        assert not await history.forget("ann")
        assert await history.recent("bob") == [HUNTER]

    asyncio.run(listen())


def test_old_plays_are_neither_read_nor_kept(histories: HistoryFactory) -> None:
    async def listen() -> None:
        now = now_ms()
        await histories.open(days=30).record("ann", [(JOGA, now - 20 * DAY_MS)])
        assert await histories.open(days=30).recent("ann") == [JOGA]
        assert await histories.open(days=10).recent("ann") == []
        await histories.open(days=10).record("ann", [(WATERLOO, now)])
        assert await histories.open(days=30).recent("ann") == [WATERLOO]

    asyncio.run(listen())


def test_old_plays_of_users_who_left_are_removed(
    histories: HistoryFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.history.PURGE_EVERY_S", 0.01)

    async def listen() -> None:
        now = now_ms()
        await histories.open(days=10).purge()  # the collection does not exist yet
        long = histories.open(days=30)
        await long.record("ann", [(JOGA, now - 20 * DAY_MS), (HUNTER, now)])
        await long.record("bob", [(JOGA, now - 20 * DAY_MS)])
        purging = asyncio.create_task(histories.open(days=10).purge_regularly())
        while await long.recent("bob"):
            await asyncio.sleep(0.01)
        purging.cancel()
        assert await long.recent("ann") == [HUNTER]

    asyncio.run(listen())


def test_a_removed_history_is_created_again() -> None:
    nodes = MemoryNodes()
    history = HistoryFactory(QdrantOptions((":memory:",)), AsyncMemoryNodes(nodes)).open()

    async def listen() -> None:
        await history.record("ann", [(JOGA, now_ms())])
        nodes.client.delete_collection("nextsong-history")
        assert await history.recent("ann") == []
        await history.record("ann", [(HUNTER, now_ms())])
        assert await history.recent("ann") == [HUNTER]

    asyncio.run(listen())


def test_plays_are_kept_on_the_configured_number_of_nodes() -> None:
    made = {}

    class Server:
        async def request(self, task: str, call: Any, _deadline: float | None) -> Any:
            return await call(self)

        async def collection_exists(self, _name: str) -> bool:
            return False

        async def create_collection(self, _name: str, **options: Any) -> None:
            made.update(options)

        async def create_payload_index(self, *_: Any) -> None:
            pass

    history = History(QdrantOptions(("a",)), 10, 10, 2, nodes=Server())
    asyncio.run(history._create_collection())
    assert made["replication_factor"] == 2


def play(song_id: Any, at_ms: int = 0) -> pb.Play:
    return pb.Play(song=pb.Seed(song_id=str(song_id)), at_ms=at_ms)


def test_recommendations_for_a_user_follow_the_history(
    loop: Loop, histories: HistoryFactory
) -> None:
    history = histories.open()
    with (
        loop.serve(FakeStore(FakeRelease(POINTS)), history=history) as server,
        Client(server.address) as client,
    ):
        plays = [play(WATERLOO), play(JOGA), play(NOBODY)]
        response = client.record_plays(pb.RecordPlaysRequest(user_id="ann", plays=plays))
        assert response.recorded == 2
        by_user = client.recommend(pb.RecommendRequest(user_id="ann", limit=5))
        seeds = [pb.Seed(song_id=str(song)) for song in (WATERLOO, JOGA)]
        assert by_user == client.recommend(pb.RecommendRequest(seeds=seeds, limit=5))
        assert not {str(WATERLOO), str(JOGA)} & set(ids(by_user))
        stranger = client.recommend(pb.RecommendRequest(user_id="nobody"))
        assert stranger.strategy == pb.STRATEGY_POPULAR
        assert len(stranger.songs) == 4
        assert not stranger.seeds
        assert client.forget_user(pb.ForgetUserRequest(user_id="ann")).known
        assert not client.forget_user(pb.ForgetUserRequest(user_id="ann")).known
        again = client.recommend(pb.RecommendRequest(user_id="ann"))
        assert again.strategy == pb.STRATEGY_POPULAR


def test_malformed_requests_name_the_field(loop: Loop) -> None:
    nodes = AsyncMemoryNodes(MemoryNodes())
    history = HistoryFactory(QdrantOptions((":memory:",)), nodes).open()
    good = pb.RecordPlaysRequest(user_id="ann", plays=[play(JOGA)])
    with (
        loop.serve(FakeStore(FakeRelease(POINTS)), history=history) as server,
        Client(server.address) as client,
    ):
        assert client.record_plays(good).recorded == 1
        for request, field in [
            (pb.RecordPlaysRequest(plays=[play(JOGA)]), "user_id"),
            (pb.RecordPlaysRequest(user_id="x" * 257, plays=[play(JOGA)]), "user_id"),
            (pb.RecordPlaysRequest(user_id="ann"), "plays"),
            (pb.RecordPlaysRequest(user_id="ann", plays=[play(JOGA)] * 1001), "plays"),
            (pb.RecordPlaysRequest(user_id="ann", plays=[pb.Play()]), "plays[0].song.title"),
            (pb.RecordPlaysRequest(user_id="ann", plays=[play(JOGA, -1)]), "plays[0].at_ms"),
            (
                pb.RecordPlaysRequest(user_id="ann", plays=[play(JOGA, now_ms() + DAY_MS)]),
                "plays[0].at_ms",
            ),
        ]:
            with pytest.raises(RequestError) as caught:
                client.record_plays(request)
            assert caught.value.field == field
        both = pb.RecommendRequest(user_id="ann", seeds=[pb.Seed(song_id=NOBODY)])
        with pytest.raises(RequestError, match="user_id: must not be given together with seeds"):
            client.recommend(both)
        query = pb.RecommendRequest(user_id="ann")
        with pytest.raises(RequestError, match=r"requests\[0\].user_id: is not allowed"):
            client.batch_recommend(pb.BatchRecommendRequest(requests=[query]))


def test_a_service_without_history_refuses_its_methods(loop: Loop) -> None:
    with loop.serve(FakeStore(FakeRelease(POINTS))) as server, Client(server.address) as client:
        for call, request in (
            (client.recommend, pb.RecommendRequest(user_id="ann")),
            (client.record_plays, pb.RecordPlaysRequest(user_id="ann", plays=[play(JOGA)])),
            (client.forget_user, pb.ForgetUserRequest(user_id="ann")),
        ):
            with pytest.raises(NoHistoryError, match="keeps no listening history"):
                call(request)  # type: ignore[operator]
    with pytest.raises(SettingsError, match="history needs qdrant_url"):
        settings.load({"history": True, "qdrant_url": None})
