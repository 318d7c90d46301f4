"""Bounds on artists, diversity and batches: by hand, and the engine against memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.model import Filter, Hit
from service.recommend.diversify import Picks
from service.recommend.engine import Mode, Query, Strategy, recommend, recommend_many
from service.recommend.seeds import Seed
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.store import OpenRelease

RANDOM = np.random.default_rng(3)
SONGS = 120
# One artist has half of the songs, and those that the first seeds predict best.
POINTS = points_of(
    *(
        (
            "Flood" if place < SONGS // 2 else f"Artist {place % 7}",
            f"Song {place}",
            SONGS - place,
            RANDOM.normal(size=8),
        )
        for place in range(SONGS)
    )
)
STRENGTHS = {
    seed: {song: float(SONGS - song + RANDOM.random()) for song in range(SONGS) if song != seed}
    for seed in range(SONGS)
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    home = EmbeddedStore(tmp_path_factory.mktemp("picking"))
    publish(home, POINTS, strengths=STRENGTHS)
    release = home.open()
    yield release
    release.close()


@pytest.fixture(params=["memory", "engine"])
def release(request: pytest.FixtureRequest, real: OpenRelease) -> OpenRelease:
    return FakeRelease(POINTS, strengths=STRENGTHS) if request.param == "memory" else real


def seeds(*places: int) -> list[Seed]:
    return [Seed(song_id=POINTS[place].song.song_id) for place in places]


@pytest.mark.parametrize("mode", [Mode.DENSE, Mode.COOCCURRENCE, None])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_best_songs_within_the_bound_and_no_fewer(
    release: OpenRelease, mode: Mode | None, most: int
) -> None:
    asked = seeds(3, 70) if mode else [Seed(artist="Nobody", title="?")]
    full = asyncio.run(recommend(release, asked, 500, mode=mode)).songs
    expected: list[Hit] = []
    count: Counter[str] = Counter()
    for hit in full:  # a walk down the whole ranking is what must come out
        if count[hit.song.artist] < most and len(expected) < 9:
            expected.append(hit)
            count[hit.song.artist] += 1
    found = asyncio.run(recommend(release, asked, 9, mode=mode, max_per_artist=most)).songs
    assert [hit.song.title for hit in found] == [hit.song.title for hit in expected]
    assert len(found) == min(9, 8 * most)


def test_fused_rankings_keep_the_bound_too(release: OpenRelease) -> None:
    found = asyncio.run(
        recommend(release, seeds(3, 70), 16, mode=Mode.HYBRID, max_per_artist=2)
    ).songs
    assert set(Counter(hit.song.artist for hit in found).values()) == {2}
    assert len(found) == 16


def test_a_bound_does_not_undo_the_filter(release: OpenRelease) -> None:
    where = Filter(exclude_artists=frozenset(["artist 1"]), max_playlists=50)
    answer = asyncio.run(recommend(release, seeds(3), 20, where, max_per_artist=1))
    artists = [hit.song.artist for hit in answer.songs]
    assert sorted(artists) == [f"Artist {place}" for place in (0, 2, 3, 4, 5, 6)]


def hit(title: str, score: float, vector: Sequence[float] | None, artist: str = "A") -> Hit:
    (point,) = points_of((artist, title, 1, (1.0,)))
    return Hit(point.song, score, None if vector is None else np.array(vector, np.float32))


def picked(ranking: list[Hit], limit: int, most: int = 0, diversity: float = 0.0) -> list[str]:
    picks = Picks(limit, most, diversity)
    picks.add(ranking)
    return [hit.song.title for hit in picks.songs]


X, Y = (1.0, 0.0), (0.0, 1.0)


def test_diversity_by_hand() -> None:
    ranking = [hit("best", 1.0, X), hit("same", 0.9, X), hit("other", 0.5, Y), hit("last", 0.0, Y)]
    assert picked(ranking, 4) == ["best", "same", "other", "last"]
    # d = .5 after the best: same .5 * .9 - .5 * 1, other .5 * .5 - 0, last 0.
    assert picked(ranking, 2, diversity=0.5) == ["best", "other"]
    # d = .1: same .9 * .9 - .1 = .71 beats other .9 * .5 = .45.
    assert picked(ranking, 2, diversity=0.1) == ["best", "same"]
    assert picked(ranking, 3, diversity=0.5) == ["best", "other", "same"]
    assert set(picked(ranking, 2, diversity=1.0)) in ({"best", "other"}, {"best", "last"})


def test_diversity_carries_on_from_what_was_picked_before() -> None:
    picks = Picks(2, diversity=0.9)
    picks.add([hit("first", 1.0, X)])
    picks.add([hit("same", 1.0, X), hit("other", 0.1, Y)])
    assert [hit.song.title for hit in picks.songs] == ["first", "other"]
    assert picks.complete


def test_songs_without_a_vector_and_equal_scores_can_be_diverse() -> None:
    ranking = [hit("a", 1.0, None), hit("b", 1.0, X), hit("c", 1.0, None), hit("d", 1.0, X)]
    assert sorted(picked(ranking, 4, diversity=0.5)) == ["a", "b", "c", "d"]
    assert picked([hit("a", 1.0, None)], 4, diversity=0.5) == ["a"]
    assert picked([], 4, diversity=0.5) == []


def test_diversity_keeps_the_bound() -> None:
    ranking = [hit("a", 1.0, X), hit("b", 0.9, Y), hit("c", 0.1, X, "B"), hit("d", 0.0, Y, "B")]
    assert picked(ranking, 4, most=1, diversity=0.3) == ["a", "d"]


def test_more_diversity_makes_answers_less_alike(release: OpenRelease) -> None:
    alike = []
    for diversity in (0.0, 0.3, 0.7):
        answer = asyncio.run(
            recommend(release, seeds(4, 80), 10, mode=Mode.DENSE, diversity=diversity)
        )
        vectors = np.array(
            [POINTS[hit.song.ordinal].vector for hit in answer.songs], dtype=np.float64
        )
        assert len({hit.song.song_id for hit in answer.songs}) == 10
        alike.append((vectors @ vectors.T)[np.triu_indices(10, 1)].mean())
    assert alike[0] > alike[1] > alike[2]


def test_a_batch_answers_as_its_asks_do_alone(release: OpenRelease) -> None:
    asks = [
        Query(seeds(1, 2, 3)),
        Query([Seed(artist="Nobody", title="?")], limit=4),
        Query(seeds(90), 20, mode=Mode.DENSE, max_per_artist=2, explain=True),
        Query([Seed(artist="Flood", title="?")], 7, diversity=0.5),
        Query([]),
        Query(seeds(5), limit=0),
        Query(seeds(1, 2, 3), 12, Filter(min_playlists=50), Mode.COOCCURRENCE),
    ]
    together = asyncio.run(recommend_many(release, asks))
    alone = [asyncio.run(recommend_many(release, [ask]))[0] for ask in asks]
    for one, other in zip(together, alone, strict=True):
        assert (one.songs, one.mode, one.reasons) == (other.songs, other.mode, other.reasons)
    assert [len(answer.songs) for answer in together] == [10, 4, 16, 7, 10, 0, 12]
    assert [answer.strategy for answer in together] == [
        Strategy.SEEDS,
        Strategy.POPULAR,
        Strategy.SEEDS,
        Strategy.ARTISTS,
        Strategy.POPULAR,
        Strategy.SEEDS,
        Strategy.SEEDS,
    ]
    assert asyncio.run(recommend_many(release, [])) == []


def test_a_batch_is_one_search() -> None:
    fake = FakeRelease(POINTS, strengths=STRENGTHS)
    asks = [Query(seeds(place, place + 1), explain=True) for place in range(50)]
    asyncio.run(recommend_many(fake, asks))
    # `strengths` of the fake looks points up too.
    assert fake.asked == {"points": 2, "find": 1, "strengths": 1}
