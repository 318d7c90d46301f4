"""Songs per artist, diversity and batches, on `FakeRelease` and on Qdrant Edge."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.model import Filter, Hit
from service.recommend.diversify import DiverseSelection
from service.recommend.engine import recommend, recommend_many
from service.recommend.query import Mode, Query, Strategy
from service.recommend.seeds import Seed
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.store import OpenRelease

RANDOM = np.random.default_rng(3)
SONGS = 120
# Half of the songs, those with the highest scores, are by the same artist.
POINTS = points_of(
    *(
        (
            "Flood" if rank < SONGS // 2 else f"Artist {rank % 7}",
            f"Song {rank}",
            SONGS - rank,
            RANDOM.normal(size=8),
        )
        for rank in range(SONGS)
    )
)
WEIGHTS = {
    seed: {song: float(SONGS - song + RANDOM.random()) for song in range(SONGS) if song != seed}
    for seed in range(SONGS)
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    store = EmbeddedStore(tmp_path_factory.mktemp("diversify"))
    publish(store, POINTS, strengths=WEIGHTS)
    release = store.open()
    yield release
    release.close()


@pytest.fixture(params=["fake", "edge"])
def release(request: pytest.FixtureRequest, real: OpenRelease) -> OpenRelease:
    return FakeRelease(POINTS, strengths=WEIGHTS) if request.param == "fake" else real


def seeds(*ordinals: int) -> list[Seed]:
    return [Seed(song_id=POINTS[ordinal].song.song_id) for ordinal in ordinals]


@pytest.mark.parametrize("mode", [Mode.DENSE, Mode.COOCCURRENCE, None])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_best_songs_within_the_maximum_per_artist_are_selected(
    release: OpenRelease, mode: Mode | None, most: int
) -> None:
    query_seeds = seeds(3, 70) if mode else [Seed(artist="Nobody", title="?")]
    full = asyncio.run(recommend(release, Query(query_seeds, 500, mode=mode))).songs
    expected: list[Hit] = []
    count: Counter[str] = Counter()
    for hit in full:
        if count[hit.song.artist] < most and len(expected) < 9:
            expected.append(hit)
            count[hit.song.artist] += 1
    query = Query(query_seeds, 9, mode=mode, max_per_artist=most)
    songs = asyncio.run(recommend(release, query)).songs
    assert [hit.song.title for hit in songs] == [hit.song.title for hit in expected]
    assert len(songs) == min(9, 8 * most)


def test_hybrid_rankings_keep_the_maximum_per_artist(release: OpenRelease) -> None:
    query = Query(seeds(3, 70), 16, mode=Mode.HYBRID, max_per_artist=2)
    songs = asyncio.run(recommend(release, query)).songs
    assert set(Counter(hit.song.artist for hit in songs).values()) == {2}
    assert len(songs) == 16


def test_the_maximum_per_artist_does_not_weaken_the_filter(release: OpenRelease) -> None:
    where = Filter(exclude_artists=frozenset(["artist 1"]), max_playlists=50)
    recommendation = asyncio.run(recommend(release, Query(seeds(3), 20, where, max_per_artist=1)))
    artists = [hit.song.artist for hit in recommendation.songs]
    assert sorted(artists) == [f"Artist {number}" for number in (0, 2, 3, 4, 5, 6)]


def hit(title: str, score: float, vector: Sequence[float] | None, artist: str = "A") -> Hit:
    (point,) = points_of((artist, title, 1, (1.0,)))
    return Hit(point.song, score, None if vector is None else np.array(vector, np.float32))


def select(
    ranking: list[Hit], limit: int, most: int = 0, diversity: float = 0.0, gap: int = 0
) -> list[str]:
    selection = DiverseSelection(limit, most, diversity, gap)
    selection.add(ranking)
    return [hit.song.title for hit in selection.songs]


X, Y = (1.0, 0.0), (0.0, 1.0)


def test_songs_are_selected_by_marginal_relevance() -> None:
    ranking = [hit("best", 1.0, X), hit("same", 0.9, X), hit("other", 0.5, Y), hit("last", 0.0, Y)]
    assert select(ranking, 4) == ["best", "same", "other", "last"]
    # With a diversity of 0.5, the marginal relevances after "best" are 0.5 * 0.9 - 0.5 * 1 for
    # "same", 0.5 * 0.5 for "other", and 0 for "last".
    assert select(ranking, 2, diversity=0.5) == ["best", "other"]
    # With a diversity of 0.1, the marginal relevances are 0.9 * 0.9 - 0.1 for "same" and 0.9 * 0.5
    # for "other".
    assert select(ranking, 2, diversity=0.1) == ["best", "same"]
    assert select(ranking, 3, diversity=0.5) == ["best", "other", "same"]
    assert set(select(ranking, 2, diversity=1.0)) in ({"best", "other"}, {"best", "last"})


def test_similarity_to_songs_of_earlier_rankings_counts() -> None:
    selection = DiverseSelection(2, diversity=0.9)
    selection.add([hit("first", 1.0, X)])
    selection.add([hit("same", 1.0, X), hit("other", 0.1, Y)])
    assert [hit.song.title for hit in selection.songs] == ["first", "other"]
    assert selection.is_complete


def test_songs_without_a_vector_and_equal_scores_can_be_selected() -> None:
    ranking = [hit("a", 1.0, None), hit("b", 1.0, X), hit("c", 1.0, None), hit("d", 1.0, X)]
    assert sorted(select(ranking, 4, diversity=0.5)) == ["a", "b", "c", "d"]
    assert select([hit("a", 1.0, None)], 4, diversity=0.5) == ["a"]
    assert select([], 4, diversity=0.5) == []


def test_diversity_keeps_the_maximum_per_artist() -> None:
    ranking = [hit("a", 1.0, X), hit("b", 0.9, Y), hit("c", 0.1, X, "B"), hit("d", 0.0, Y, "B")]
    assert select(ranking, 4, most=1, diversity=0.3) == ["a", "d"]


def by(artist: str, *titles: str) -> list[Hit]:
    return [hit(title, 1.0, None, artist) for title in titles]


def test_songs_of_an_artist_are_spaced_by_the_gap() -> None:
    ranking = [*by("A", "a1", "a2", "a3"), *by("B", "b1"), *by("C", "c1"), *by("B", "b2")]
    assert select(ranking, 6) == ["a1", "a2", "a3", "b1", "c1", "b2"]
    assert select(ranking, 6, gap=1) == ["a1", "b1", "a2", "c1", "a3", "b2"]
    assert select(ranking, 6, gap=2) == ["a1", "b1", "c1", "a2", "b2"]  # a3 would be too close
    assert select(ranking, 3, gap=2) == ["a1", "b1", "c1"]
    assert select(ranking, 6, gap=1, most=2) == ["a1", "b1", "a2", "c1", "b2"]


def test_songs_delayed_by_a_gap_precede_songs_of_later_rankings() -> None:
    selection = DiverseSelection(5, min_artist_gap=1)
    selection.add(by("A", "a1", "a2", "a3"))
    assert [hit.song.title for hit in selection.songs] == ["a1"]
    assert selection.blocked_artists == {"a"}
    selection.add(by("B", "b1", "b2"))
    assert [hit.song.title for hit in selection.songs] == ["a1", "b1", "a2", "b2", "a3"]


def test_a_song_counts_for_each_of_its_artists() -> None:
    duet = hit("duet", 1.0, None)
    duet = replace(duet, song=replace(duet.song, artist_keys=("a", "b")))
    ranking = [duet, *by("B", "b1", "b2"), *by("C", "c1", "c2"), *by("A", "a1")]
    assert select(ranking, 6, most=1) == ["duet", "c1"]
    assert select(ranking, 6, gap=2) == ["duet", "c1"]
    assert select(ranking, 6, gap=1) == ["duet", "c1", "b1", "c2", "b2", "a1"]


def test_songs_without_an_artist_are_neither_capped_nor_spaced() -> None:
    assert select(by("", "milk", "bread", "eggs"), 3, most=1, gap=5) == ["milk", "bread", "eggs"]


def test_gaps_combined_with_diversity() -> None:
    ranking = [hit("a1", 1.0, X), hit("a2", 0.9, Y), hit("b1", 0.5, X, "B"), hit("c", 0.4, Y, "C")]
    # The scores, scaled to the range from 0 to 1, are 1, 0.83, 0.17 and 0. With a diversity of 0.5,
    # the marginal relevances after "a1" are 0.5 * 0.83 for "a2", 0 for "c", and 0.5 * 0.17 - 0.5
    # for "b1".
    assert select(ranking, 4, diversity=0.5) == ["a1", "a2", "b1", "c"]
    assert select(ranking, 4, diversity=0.5, gap=1) == ["a1", "c", "a2", "b1"]


@pytest.mark.parametrize("mode", [Mode.DENSE, Mode.COOCCURRENCE, Mode.HYBRID, None])
@pytest.mark.parametrize("gap", [1, 3])
def test_no_two_songs_of_an_artist_are_closer_than_the_gap(
    release: OpenRelease, mode: Mode | None, gap: int
) -> None:
    query_seeds = seeds(3, 70) if mode else [Seed(artist="Nobody", title="?")]
    full = asyncio.run(recommend(release, Query(query_seeds, 500, mode=mode))).songs
    songs = asyncio.run(
        recommend(release, Query(query_seeds, 20, mode=mode, min_artist_gap=gap))
    ).songs
    artists = [hit.song.artist for hit in songs]
    for position, artist in enumerate(artists):
        assert artist not in artists[position + 1 : position + 1 + gap]
    assert len(songs) == 20
    assert songs[0] == full[0]


def test_a_recommendation_is_shorter_if_only_songs_within_the_gap_remain(
    release: OpenRelease,
) -> None:
    where = Filter(include_artists=frozenset(["flood", "artist 1"]))
    query = Query(seeds(3), 100, where, Mode.COOCCURRENCE, min_artist_gap=1)
    artists = [hit.song.artist for hit in asyncio.run(recommend(release, query)).songs]
    few = sum(point.song.artist == "Artist 1" for point in POINTS)
    assert artists == ["Flood", "Artist 1"] * few + ["Flood"]


def test_more_diversity_lowers_the_mean_cosine(release: OpenRelease) -> None:
    means = []
    for diversity in (0.0, 0.3, 0.7):
        recommendation = asyncio.run(
            recommend(release, Query(seeds(4, 80), mode=Mode.DENSE, diversity=diversity))
        )
        vectors = np.array(
            [POINTS[hit.song.ordinal].vector for hit in recommendation.songs], dtype=np.float64
        )
        assert len({hit.song.song_id for hit in recommendation.songs}) == 10
        means.append((vectors @ vectors.T)[np.triu_indices(10, 1)].mean())
    assert means[0] > means[1] > means[2]


def test_a_query_gets_the_same_recommendation_in_a_batch_as_alone(release: OpenRelease) -> None:
    queries = [
        Query(seeds(1, 2, 3)),
        Query([Seed(artist="Nobody", title="?")], limit=4),
        Query(seeds(90), 20, mode=Mode.DENSE, max_per_artist=2, explain=True),
        Query([Seed(artist="Flood", title="?")], 7, diversity=0.5),
        Query([]),
        Query(seeds(5), limit=0),
        Query(seeds(1, 2, 3), 12, Filter(min_playlists=50), Mode.COOCCURRENCE),
    ]
    together = asyncio.run(recommend_many(release, queries))
    alone = [asyncio.run(recommend(release, query)) for query in queries]
    for in_batch, single in zip(together, alone, strict=True):
        assert in_batch.songs == single.songs
        assert in_batch.mode is single.mode
        assert in_batch.reasons == single.reasons
    assert [len(recommendation.songs) for recommendation in together] == [10, 4, 16, 7, 10, 0, 12]
    assert [recommendation.strategy for recommendation in together] == [
        Strategy.SEEDS,
        Strategy.POPULAR,
        Strategy.SEEDS,
        Strategy.ARTISTS,
        Strategy.POPULAR,
        Strategy.SEEDS,
        Strategy.SEEDS,
    ]
    assert asyncio.run(recommend_many(release, [])) == []


def test_a_batch_is_one_request() -> None:
    fake = FakeRelease(POINTS, strengths=WEIGHTS)
    queries = [Query(seeds(first, first + 1), explain=True) for first in range(50)]
    asyncio.run(recommend_many(fake, queries))
    # The method `cooccurrence_weights` of `FakeRelease` looks songs up, which counts as the second
    # call of `points`.
    assert fake.call_counts == {"points": 2, "find": 1, "strengths": 1}
