"""Recommendations: strategies and their order, filters, and the exclusion of seeds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.content import ARTIST
from catalog.errors import UnknownSongError
from catalog.model import ANY, Filter
from catalog.recency import Recency
from service.recommend.engine import find_similar, recommend, recommend_many
from service.recommend.query import Mode, Query, Recommendation, Strategy
from service.recommend.seeds import Resolution, Seed, resolve_seeds
from service.recommend.weights import build_dense_query
from tests.support.fakes import FakeRelease, passes, points_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from catalog.model import Hit, Point, Song
    from catalog.store import OpenRelease
    from tests.support.road import Road

# The vectors of ten songs are 10 degrees apart, on the quarter circle from x to y.
SONGS = points_of(
    *(
        (
            f"Artist {index // 3}",
            f"Song {index}",
            10 * (index + 1),
            (np.cos(np.radians(10 * index)), np.sin(np.radians(10 * index))),
        )
        for index in range(10)
    )
)


@pytest.fixture
def fake() -> FakeRelease:
    return FakeRelease(SONGS, decay=0.5, training_playlists=200)


def recommend_for(
    release: OpenRelease,
    seeds: Sequence[Seed],
    limit: int = 10,
    where: Filter = ANY,
    mode: Mode = Mode.DENSE,
) -> Recommendation:
    return asyncio.run(recommend(release, Query(seeds, limit, where, mode)))


def seeds_at(*indices: int) -> list[Seed]:
    return [Seed(song_id=SONGS[index].song.song_id) for index in indices]


def titles(hits: Sequence[Hit]) -> list[str]:
    return [hit.song.title for hit in hits]


def titles_of(*indices: int) -> list[str]:
    return [f"Song {index}" for index in indices]


UNHEARD_OF_ARTIST_0 = Seed(artist="Artist 0", title="unheard")
UNHEARD_OF_ARTIST_3 = Seed(artist="ARTIST 3", title="unheard too")
UNKNOWN_SEED = Seed(artist="Nobody", title="unheard as well")


def test_known_seeds_are_ranked_by_their_vectors(fake: FakeRelease) -> None:
    recommendation = recommend_for(fake, seeds_at(0), limit=3)
    assert recommendation.strategy is Strategy.SEEDS
    assert titles(recommendation.songs) == titles_of(1, 2, 3)
    scores = [hit.score for hit in recommendation.songs]
    assert scores == pytest.approx(np.cos(np.radians([10, 20, 30])), abs=1e-6)


def test_the_most_recent_seed_has_the_largest_weight(fake: FakeRelease) -> None:
    # The query x/2 + y is at 63.4 degrees. Song 6 at 60 degrees is nearest, then 7 and 5.
    assert titles(recommend_for(fake, seeds_at(0, 9), limit=3).songs) == titles_of(6, 7, 5)
    assert titles(recommend_for(fake, seeds_at(9, 0), limit=3).songs) == titles_of(3, 2, 4)


def test_the_decay_of_the_release_is_used() -> None:
    for decay, best in [(1.0, "Song 4"), (0.0, "Song 8")]:
        release = FakeRelease(SONGS, decay=decay)
        recommendation = recommend_for(release, seeds_at(0, 9), where=all_but("Song 5"))
        assert recommendation.songs[0].song.title == best


def all_but(*excluded: str) -> Filter:
    return Filter(
        exclude_songs=frozenset(
            point.song.song_id for point in SONGS if point.song.title in excluded
        )
    )


def test_seed_weights_change_the_ranking(fake: FakeRelease) -> None:
    heavy, light = seeds_at(0, 9)
    hits = recommend_for(fake, [replace(heavy, weight=1000.0), light], limit=1).songs
    assert titles(hits) == titles_of(1)


def test_unknown_songs_of_known_artists_count_beside_known_seeds() -> None:
    strengths = {0: {4: 1.0, 5: 0.4}}  # by ordinal: song 9 predicts songs 5 and 4
    release = FakeRelease(SONGS, strengths=strengths, shares={ARTIST: 0.5})
    seeds = [Seed(artist="artist 1", title="unheard"), *seeds_at(9)]
    recommendation = recommend_for(release, seeds, mode=Mode.COOCCURRENCE)
    assert recommendation.strategy is Strategy.SEEDS
    # Artist 1 has three songs: 3, 4 and 5. The weight of the unknown seed is 0.5, because it is the
    # second last seed.
    entry = 0.5 * 0.5 * 2 / 3**0.5
    scores = {hit.song.title: hit.score for hit in recommendation.songs}
    assert scores == pytest.approx(
        {"Song 5": 1 + entry, "Song 4": 0.4 + entry, "Song 3": entry}, rel=1e-3
    )
    assert [seed.resolution for seed in recommendation.seeds] == [
        Resolution.ARTIST,
        Resolution.SONG,
    ]


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_songs_of_the_artists_are_recommended_if_no_seed_is_known(share: float) -> None:
    release = FakeRelease(SONGS, shares={ARTIST: share})
    seeds = [UNKNOWN_SEED, UNHEARD_OF_ARTIST_0, UNKNOWN_SEED]
    recommendation = recommend_for(release, seeds)
    assert (recommendation.strategy, recommendation.mode) == (
        Strategy.ARTISTS,
        Mode.COOCCURRENCE,
    )
    # The most popular song of the artist comes first.
    assert titles(recommendation.songs) == titles_of(2, 1, 0)
    assert [seed.resolution for seed in recommendation.seeds] == [
        Resolution.UNKNOWN,
        Resolution.ARTIST,
        Resolution.UNKNOWN,
    ]
    assert release.call_counts == {"points": 1, "find": 1}


def test_artists_are_weighed_by_recency() -> None:
    release = FakeRelease(SONGS, shares={ARTIST: 0.3})
    of_2 = Seed(artist="Artist 2", title="unheard")
    recent_2 = recommend_for(release, [UNHEARD_OF_ARTIST_0, of_2])
    recent_0 = recommend_for(release, [of_2, UNHEARD_OF_ARTIST_0])
    assert titles(recent_2.songs) == titles_of(8, 7, 6, 2, 1, 0)
    assert titles(recent_0.songs) == titles_of(2, 1, 0, 8, 7, 6)


def test_an_artist_without_a_song_leads_to_popular_songs() -> None:
    release = FakeRelease(SONGS, shares={ARTIST: 0.3}, training_playlists=200)
    for seeds, where in [
        ([UNKNOWN_SEED], ANY),
        ([UNHEARD_OF_ARTIST_0], Filter(exclude_artists=frozenset(["artist 0"]))),
    ]:
        recommendation = recommend_for(release, seeds, 2, where)
        assert (recommendation.strategy, recommendation.mode) == (Strategy.POPULAR, None)
        assert titles(recommendation.songs) == titles_of(9, 8)
        assert recommendation.songs[0].score == 100 / 200
        assert recommendation.seeds[0].resolution is Resolution.UNKNOWN


def test_queries_of_a_batch_lead_to_popular_songs_on_their_own() -> None:
    release = FakeRelease(SONGS, shares={ARTIST: 0.3})
    queries = [Query(seeds, 1) for seeds in ([UNKNOWN_SEED], seeds_at(0), [UNHEARD_OF_ARTIST_0])]
    recommendations = asyncio.run(recommend_many(release, queries))
    assert [recommendation.strategy for recommendation in recommendations] == [
        Strategy.POPULAR,
        Strategy.SEEDS,
        Strategy.ARTISTS,
    ]
    assert [titles(recommendation.songs) for recommendation in recommendations] == [
        titles_of(9),
        titles_of(1),
        titles_of(2),
    ]


def test_a_hybrid_recommendation_is_one_lookup_and_one_search() -> None:
    release = FakeRelease(SONGS, strengths={0: {4: 1.0}}, shares={ARTIST: 0.3})
    seeds = [*seeds_at(9, 0), UNHEARD_OF_ARTIST_0, UNKNOWN_SEED]
    assert recommend_for(release, seeds, 3, mode=Mode.HYBRID).mode is Mode.HYBRID
    assert release.call_counts == {"points": 1, "find": 1}


def test_releases_without_content_entries_list_the_popular_songs_of_the_artists(
    fake: FakeRelease,
) -> None:
    recommendation = recommend_for(fake, [UNHEARD_OF_ARTIST_0, UNHEARD_OF_ARTIST_3], limit=3)
    assert (recommendation.strategy, recommendation.mode) == (Strategy.ARTISTS, None)
    assert titles(recommendation.songs) == titles_of(9, 2, 1)
    only_0 = Filter(include_artists=frozenset(["artist 0", "artist 1"]))
    recommendation = recommend_for(fake, [UNHEARD_OF_ARTIST_0, UNHEARD_OF_ARTIST_3], where=only_0)
    assert titles(recommendation.songs) == titles_of(2, 1, 0)
    beside = recommend_for(fake, [*seeds_at(0), UNHEARD_OF_ARTIST_3])
    assert beside.songs == recommend_for(fake, [*seeds_at(0), UNKNOWN_SEED]).songs


def test_popular_songs_are_recommended_if_no_artist_is_known(fake: FakeRelease) -> None:
    recommendation = recommend_for(fake, [UNKNOWN_SEED], limit=3)
    assert recommendation.strategy is Strategy.POPULAR
    assert titles(recommendation.songs) == titles_of(9, 8, 7)
    assert [hit.score for hit in recommendation.songs] == [100 / 200, 90 / 200, 80 / 200]
    assert [seed.resolution for seed in recommendation.seeds] == [Resolution.UNKNOWN]


def test_popular_songs_have_scores_in_a_release_without_playlists() -> None:
    recommendation = recommend_for(
        FakeRelease(SONGS, training_playlists=0), [UNKNOWN_SEED], limit=1
    )
    assert titles(recommendation.songs) == titles_of(9)


def test_popular_songs_are_recommended_without_seeds(fake: FakeRelease) -> None:
    recommendation = recommend_for(fake, [], limit=2)
    assert recommendation.strategy is Strategy.POPULAR
    assert titles(recommendation.songs) == titles_of(9, 8)


def test_seeds_are_never_recommended(fake: FakeRelease) -> None:
    recommendation = recommend_for(
        fake, [*seeds_at(0, 3, 3), Seed(artist="artist 1", title="SONG 4"), UNHEARD_OF_ARTIST_0]
    )
    assert sorted(titles(recommendation.songs)) == titles_of(1, 2, 5, 6, 7, 8, 9)


def test_seeds_are_excluded_in_addition_to_the_songs_of_the_filter(fake: FakeRelease) -> None:
    recommendation = recommend_for(fake, seeds_at(0), where=all_but("Song 1", "Song 2"))
    assert sorted(titles(recommendation.songs)) == titles_of(3, 4, 5, 6, 7, 8, 9)


def test_a_playlist_of_the_whole_catalog_has_no_recommendations(fake: FakeRelease) -> None:
    recommendation = recommend_for(fake, seeds_at(*range(10)))
    assert (recommendation.songs, recommendation.strategy) == ([], Strategy.SEEDS)


@pytest.mark.parametrize("seeds", [seeds_at(4), [UNKNOWN_SEED]], ids=["known", "unknown"])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(include_artists=frozenset(["artist 0"])), (0, 1, 2)),
        (Filter(include_artists=frozenset(["artist 0", "artist 3", "x"])), (0, 1, 2, 9)),
        (Filter(exclude_artists=frozenset(["artist 1"])), (0, 1, 2, 6, 7, 8, 9)),
        (
            Filter(
                include_artists=frozenset(["artist 0", "artist 2"]),
                exclude_artists=frozenset(["artist 2"]),
            ),
            (0, 1, 2),
        ),
        (all_but("Song 0", "Song 9"), (1, 2, 3, 5, 6, 7, 8)),
        (Filter(min_playlists=80), (7, 8, 9)),
        (Filter(max_playlists=30), (0, 1, 2)),
        (Filter(min_playlists=20, max_playlists=20), (1,)),
        (Filter(min_playlists=20, include_artists=frozenset(["artist 0"])), (1, 2)),
        (Filter(include_artists=frozenset(["nobody"])), ()),
        (Filter(min_playlists=101), ()),
    ],
)
def test_every_strategy_applies_the_filter(
    fake: FakeRelease, seeds: list[Seed], where: Filter, expected: tuple[int, ...]
) -> None:
    recommended = {*titles(recommend_for(fake, seeds, where=where).songs)} - {"Song 4"}
    assert recommended == set(titles_of(*expected))


def test_similar_songs_do_not_contain_the_song_itself(fake: FakeRelease) -> None:
    song, nearest = asyncio.run(find_similar(fake, Seed(artist="ARTIST 1", title="song 4"), 10))
    hits = nearest.songs
    assert song == SONGS[4].song
    assert len(hits) == 9
    assert set(titles(hits)[:2]) == {"Song 3", "Song 5"}
    assert hits[0].score == pytest.approx(np.cos(np.radians(10)), abs=1e-6)


def test_similar_songs_obey_limit_and_filter(fake: FakeRelease) -> None:
    (seed,) = seeds_at(4)
    where = replace(all_but("Song 6"), exclude_artists=frozenset(["artist 1"]))
    _, nearest = asyncio.run(find_similar(fake, seed, 2, where))
    assert titles(nearest.songs) == titles_of(2, 7)


@pytest.mark.parametrize(
    "seed", [UNHEARD_OF_ARTIST_0, UNKNOWN_SEED], ids=["artist known", "unknown"]
)
def test_similar_songs_of_an_unknown_song_are_an_error(fake: FakeRelease, seed: Seed) -> None:
    with pytest.raises(UnknownSongError, match=f"no song {seed.artist} - {seed.title}; look"):
        asyncio.run(find_similar(fake, seed))


def test_an_unknown_id_is_in_the_message(fake: FakeRelease) -> None:
    unknown = points_of(("Nobody", "Nothing", 1, (1, 0)))[0].song.song_id
    with pytest.raises(UnknownSongError, match=f"no song {unknown}; look"):
        asyncio.run(find_similar(fake, Seed(song_id=unknown)))


def test_a_long_name_is_shortened_in_the_message(fake: FakeRelease) -> None:
    with pytest.raises(UnknownSongError) as caught:
        asyncio.run(find_similar(fake, Seed(artist="a" * 10_000, title="b")))
    assert len(str(caught.value)) < 200


# A published release, compared with brute force in NumPy over all vectors


@pytest.fixture(scope="module")
def real(road: Road) -> Iterator[OpenRelease]:
    release = road.home.open()
    yield release
    release.close()


@pytest.fixture(scope="module")
def all_points(real: OpenRelease) -> list[Point]:
    points = asyncio.run(real.popular(100_000))
    assert len(points) == real.manifest.counts.songs
    return points


def random_filter(points: list[Point], seeds: list[UUID], random: np.random.Generator) -> Filter:
    artists = sorted({point.song.artist_key for point in points})
    counts = sorted(point.song.playlists for point in points)

    def random_artists(most: int) -> frozenset[str]:
        return frozenset(random.choice(artists, random.integers(1, most)).tolist())

    low, high = sorted(random.choice(counts, 2).tolist())
    excluded = [points[index].song.song_id for index in random.integers(0, len(points), 40)]
    use = random.random(5) < 0.4
    return Filter(
        include_artists=random_artists(25) if use[0] else frozenset(),
        exclude_artists=random_artists(25) if use[1] else frozenset(),
        exclude_songs=frozenset([*excluded, *seeds[:1]]) if use[2] else frozenset(),
        min_playlists=low if use[3] else 0,
        max_playlists=high if use[4] else 0,
    )


def random_seeds(
    points: list[Point], strategy: Strategy, random: np.random.Generator
) -> tuple[list[Seed], list[UUID]]:
    """Return random seeds that lead to a strategy, and the ids of the known seeds."""
    artists = sorted({point.song.artist for point in points})
    unknown = [Seed(artist=f"Nobody {index}", title="?") for index in range(random.integers(1, 3))]
    of_artists = [
        Seed(artist=str(artist).upper(), title="no such title")
        for artist in random.choice(artists, random.integers(1, 4))
    ]
    indices = random.integers(0, len(points), random.integers(1, 9))
    chosen = [points[index].song for index in indices]
    seeds = unknown
    if strategy is Strategy.SEEDS:
        seeds = seeds + of_artists
        seeds = seeds + [
            Seed(song.song_id)
            if random.random() < 0.5
            else Seed(artist=f" {song.artist.upper()} ", title=song.title.lower())
            for song in chosen
        ]
    order = random.permutation(len(seeds))
    weighted = [replace(seeds[index], weight=float(random.uniform(0.1, 3))) for index in order]
    known = [song.song_id for song in chosen] if strategy is Strategy.SEEDS else []
    return weighted, known


@pytest.mark.parametrize("strategy", [Strategy.SEEDS, Strategy.POPULAR])
@pytest.mark.parametrize("seed", range(20))
def test_recommendations_equal_brute_force(
    real: OpenRelease, all_points: list[Point], strategy: Strategy, seed: int
) -> None:
    random = np.random.default_rng(seed)
    seeds, known = random_seeds(all_points, strategy, random)
    where = random_filter(all_points, known, random)
    limit = int(random.choice([1, 10, 500]))

    recommendation = recommend_for(real, seeds, limit, where)

    scores = brute_force_scores(real, all_points, seeds, strategy)
    seed_ids = frozenset(known)
    allowed = {
        point.song.song_id: float(score)
        for point, score in zip(all_points, scores, strict=True)
        if passes(point.song, where) and point.song.song_id not in seed_ids and np.isfinite(score)
    }
    best = sorted(allowed.values(), reverse=True)[:limit]
    songs: list[Song] = [hit.song for hit in recommendation.songs]
    assert recommendation.strategy is strategy
    assert len({song.song_id for song in songs}) == len(songs)
    assert [hit.score for hit in recommendation.songs] == pytest.approx(best, abs=1e-5)
    assert [allowed[song.song_id] for song in songs] == pytest.approx(best, abs=1e-5)
    assert {song.song_id for song in songs} <= allowed.keys()


def brute_force_scores(
    release: OpenRelease, points: list[Point], seeds: list[Seed], strategy: Strategy
) -> np.ndarray:
    if strategy is Strategy.POPULAR:
        playlists = np.array([point.song.playlists for point in points])
        return playlists / release.manifest.counts.training_playlists
    recency = Recency.of_dense(release.manifest.origin.parameters)
    weights = recency.weights(np.arange(len(seeds) - 1, -1, -1))
    total = np.zeros(release.manifest.dimensions)
    for weight, seed in zip(weights, seeds, strict=True):
        vectors = [
            point.vector
            for point in points
            if point.song.song_id == seed.song_id
            or (
                point.song.artist.lower() == seed.artist.lower().strip()
                and point.song.title.lower() == seed.title
            )
        ]
        if vectors and vectors[0] is not None:
            total += seed.weight * weight * vectors[0]
    unit = total / np.linalg.norm(total)
    return np.array([-np.inf if p.vector is None else p.vector @ unit for p in points])


@pytest.mark.parametrize("strategy", [Strategy.SEEDS, Strategy.POPULAR])
def test_a_filter_that_no_song_passes_gives_an_empty_recommendation(
    real: OpenRelease, all_points: list[Point], strategy: Strategy
) -> None:
    seeds, _ = random_seeds(all_points, strategy, np.random.default_rng(1))
    for where in [Filter(include_artists=frozenset(["nobody"])), Filter(min_playlists=100_000)]:
        recommendation = recommend_for(real, seeds, where=where)
        assert (recommendation.songs, recommendation.strategy) == ([], strategy)


@pytest.mark.parametrize("index", [0, 1, 100, -1])
def test_similar_songs_equal_brute_force(
    real: OpenRelease, all_points: list[Point], index: int
) -> None:
    with_vector = [point for point in all_points if point.vector is not None]
    itself = with_vector[index]
    song, nearest = asyncio.run(find_similar(real, Seed(song_id=itself.song.song_id), 20))
    hits = nearest.songs
    others = [point.vector for point in with_vector if point is not itself]
    scores = np.array(others) @ itself.vector
    assert song == itself.song
    assert itself.song not in [hit.song for hit in hits]
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1][:20], abs=1e-5)


def test_every_song_is_resolved_by_its_name(real: OpenRelease, all_points: list[Point]) -> None:
    seeds = [
        Seed(artist=point.song.artist.swapcase(), title=point.song.title) for point in all_points
    ]
    resolved = asyncio.run(resolve_seeds(real, seeds))
    assert [seed.point.song for seed in resolved if seed.point] == [p.song for p in all_points]
    assert all(seed.resolution is Resolution.SONG for seed in resolved)
    assert build_dense_query(resolved, Recency()) is not None
