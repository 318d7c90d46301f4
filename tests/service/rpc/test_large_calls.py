"""The largest valid calls: other tasks can run in between, and a cancelled call stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog import pauses
from catalog.embedded.store import EmbeddedStore
from catalog.model import ANY
from nextsong.v1 import recommender_pb2 as pb
from service.api import methods
from service.recommend import explain
from service.recommend.engine import recommend_many
from service.recommend.query import Mode, Query
from service.recommend.retrieval import MAX_SEARCH_DEPTH
from service.recommend.seeds import MAX_CONCURRENT_LOOKUPS, Seed, resolve_seeds
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence

    from catalog.model import Filter, Hit, Point, Search, Song
    from catalog.store import OpenRelease

SONGS = 1_600
RANDOM = np.random.default_rng(5)
POINTS = points_of(
    *(
        (f"Artist {number % 600}", f"Song {number}", SONGS - number, RANDOM.normal(size=8))
        for number in range(SONGS)
    )
)
STRENGTHS = {
    seed: {int(song): float(RANDOM.random() + 0.1) for song in RANDOM.integers(0, SONGS, 30)}
    for seed in range(SONGS)
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    store = EmbeddedStore(tmp_path_factory.mktemp("large"))
    publish(store, POINTS, strengths=STRENGTHS)
    release = store.open()
    yield release
    release.close()


def seeds(count: int, start: int = 0) -> list[pb.Seed]:
    ids = (str(POINTS[(start + number) % SONGS].song.song_id) for number in range(count))
    return [pb.Seed(song_id=song_id) for song_id in ids]


ONE = pb.RecommendRequest(
    seeds=seeds(1_000), limit=500, explain=True, diversity=0.5, max_per_artist=1
)
MANY = pb.BatchRecommendRequest(
    requests=[
        pb.RecommendRequest(
            seeds=seeds(500, 70 * number), limit=500, explain=True, diversity=0.5, max_per_artist=1
        )
        for number in range(20)
    ]
)


async def count_turns_during(work: Awaitable[object]) -> int:
    """Return the number of times that another task could run while `work` was awaited."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count_turns())
    await work
    task.cancel()
    return turns


@pytest.mark.parametrize("large", ["one", "many", "unknown"])
def test_other_tasks_run_during_the_largest_calls(
    real: OpenRelease, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = [
        pb.Seed(artist=f"Artist {number % 600}", title=f"?{number}") for number in range(1_000)
    ]
    work = {
        "one": lambda: methods.recommend(real, ONE),
        "many": lambda: methods.batch_recommend(real, MANY),
        "unknown": lambda: methods.recommend(real, pb.RecommendRequest(seeds=unknown)),
    }[large]
    monkeypatch.setattr(pauses, "WORK_S", 0.0005)  # so that pauses occur even on a fast machine
    assert asyncio.run(count_turns_during(work())) > 3 * pauses.ROUNDS


def test_a_small_call_never_yields(real: OpenRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "WORK_S", 60.0)
    small = methods.recommend(real, pb.RecommendRequest(seeds=seeds(20)))
    assert asyncio.run(count_turns_during(small)) == 0


class RecordingRelease(FakeRelease):
    """Records all searches, and the number of queries that run concurrently."""

    def __init__(self, points: Sequence[Point], *, track_ids: bool = False) -> None:
        super().__init__(points, track_ids=track_ids)
        self.searches: list[Search] = []
        self.now = self.most = 0

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        self.searches += searches
        await asyncio.sleep(0)
        return await super().find(searches)

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return []


def test_a_cancelled_batch_stops_searching() -> None:
    release = RecordingRelease(POINTS[:100])
    request = pb.BatchRecommendRequest(
        requests=[pb.RecommendRequest(seeds=seeds(500), limit=500)] * 20
    )

    async def cancel_batch() -> None:
        task = asyncio.create_task(methods.batch_recommend(release, request))
        while not release.searches:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_batch())
    assert len(release.searches) < 10


def test_a_deadline_ends_work_that_never_waits(
    real: OpenRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "WORK_S", 0.0)
    answered = []

    async def exceed_deadline() -> None:
        async with asyncio.timeout(0.001):
            answered.append(await methods.batch_recommend(real, MANY))

    with pytest.raises(TimeoutError):
        asyncio.run(exceed_deadline())
    assert not answered


def test_a_playlist_is_explained_once_for_all_its_songs(
    real: OpenRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()

    def list_entries(*arguments: object) -> object:
        counted["counts"] += 1
        return counts(*arguments)  # type: ignore[arg-type]

    counts = explain.list_entries
    monkeypatch.setattr(explain, "list_entries", list_entries)
    answer = asyncio.run(methods.recommend(real, ONE))
    assert len(answer.songs) == 500
    assert counted["counts"] == 1
    for scored in answer.songs:
        assert 0 < len(scored.reasons) <= explain.MAX_REASONS
        assert sum(reason.share for reason in scored.reasons) <= 1 + 1e-5
    assert answer.ByteSize() < 500 * 400


def test_the_number_of_concurrent_queries_is_limited() -> None:
    release = RecordingRelease(POINTS[:10], track_ids=True)
    unknown = [Seed(artist=f"Nobody {number}", title="?") for number in range(1_000)]
    resolved = asyncio.run(resolve_seeds(release, unknown))
    assert len(resolved) == 1_000
    assert release.most == MAX_CONCURRENT_LOOKUPS


def test_no_search_is_deeper_than_a_server_allows() -> None:
    rows = [
        (f"Artist {artist}", f"{artist}-{number}", 9_000 - len(POINTS), (1 - artist / 10, number))
        for artist in range(3)
        for number in range(3_000)
    ]
    release = RecordingRelease(points_of(*rows))
    ask = Query([Seed(artist="Artist 0", title="0-0")], 500, mode=Mode.DENSE, max_per_artist=1)
    (answer,) = asyncio.run(recommend_many(release, [ask]))
    assert {hit.song.artist for hit in answer.songs} == {f"Artist {number}" for number in range(3)}
    assert max(search.limit for search in release.searches) <= MAX_SEARCH_DEPTH
    # Songs of artists that have reached their maximum are excluded by artist, not one by one.
    assert max(len(search.where.exclude_songs) for search in release.searches) == 1
