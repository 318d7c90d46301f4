"""Ranking: strategies and their order, what a filter lets pass, and that seeds never come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from catalog.errors import UnknownSongError
from catalog.model import ANY, Filter
from service.recommend.engine import Mode, Recommendation, Strategy, recommend, similar
from service.recommend.seeds import Resolution, Seed, embed, resolve
from tests.support.fakes import FakeRelease, passes, points_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from catalog.model import Hit, Point, Song
    from catalog.store import OpenRelease
    from tests.support.road import Road

# Ten songs on the quarter circle from x to y, 10 degrees apart: neighbours are near each other.
SONGS = points_of(
    *(
        (
            f"Artist {place // 3}",
            f"Song {place}",
            10 * (place + 1),
            (np.cos(np.radians(10 * place)), np.sin(np.radians(10 * place))),
        )
        for place in range(10)
    )
)


@pytest.fixture
def fake() -> FakeRelease:
    return FakeRelease(SONGS, decay=0.5, training_playlists=200)


def ask(
    release: OpenRelease,
    seeds: Sequence[Seed],
    limit: int = 10,
    where: Filter = ANY,
    mode: Mode = Mode.DENSE,
) -> Recommendation:
    return asyncio.run(recommend(release, seeds, limit, where, mode))


def songs(*places: int) -> list[Seed]:
    return [Seed(song_id=SONGS[place].song.song_id) for place in places]


def titles(hits: Sequence[Hit]) -> list[str]:
    return [hit.song.title for hit in hits]


def called(*places: int) -> list[str]:
    return [f"Song {place}" for place in places]


OF_ARTIST_0 = Seed(artist="Artist 0", title="lost")
OF_ARTIST_3 = Seed(artist="ARTIST 3", title="lost too")
OF_NOBODY = Seed(artist="Nobody", title="lost as well")


def test_known_seeds_answer_by_their_vectors(fake: FakeRelease) -> None:
    answer = ask(fake, songs(0), limit=3)
    assert answer.strategy is Strategy.SEEDS
    assert titles(answer.songs) == called(1, 2, 3)
    scores = [hit.score for hit in answer.songs]
    assert scores == pytest.approx(np.cos(np.radians([10, 20, 30])), abs=1e-6)


def test_the_most_recent_seed_pulls_hardest(fake: FakeRelease) -> None:
    # x/2 + y points 63.4 degrees up: song 6 lies at 60, then 7 and 5.
    assert titles(ask(fake, songs(0, 9), limit=3).songs) == called(6, 7, 5)
    assert titles(ask(fake, songs(9, 0), limit=3).songs) == called(3, 2, 4)


def test_the_decay_is_that_of_the_release() -> None:
    for decay, best in [(1.0, "Song 4"), (0.0, "Song 8")]:
        hits = ask(FakeRelease(SONGS, decay=decay), songs(0, 9), where=but("Song 5")).songs
        assert hits[0].song.title == best


def but(*left_out: str) -> Filter:
    return Filter(
        exclude_songs=frozenset(
            point.song.song_id for point in SONGS if point.song.title in left_out
        )
    )


def test_weights_reach_the_ranking(fake: FakeRelease) -> None:
    heavy, light = songs(0, 9)
    hits = ask(fake, [replace(heavy, weight=1000.0), light], limit=1).songs
    assert titles(hits) == called(1)


def test_artists_of_unknown_seeds_are_not_asked_where_a_seed_is_known(fake: FakeRelease) -> None:
    alone = ask(fake, [*songs(0), OF_NOBODY])
    beside = ask(fake, [*songs(0), OF_ARTIST_3])
    assert beside.strategy is Strategy.SEEDS
    assert beside.songs == alone.songs
    assert [seed.resolution for seed in beside.seeds] == [Resolution.SONG, Resolution.ARTIST]


def test_artists_stand_in_where_no_seed_is_known(fake: FakeRelease) -> None:
    answer = ask(fake, [OF_NOBODY, OF_ARTIST_0, OF_NOBODY], limit=4)
    assert answer.strategy is Strategy.ARTISTS
    # Their own songs are new to the playlist, so they may be recommended: 0, 1, 2 centre on 1.
    assert titles(answer.songs)[0] == "Song 1"
    assert set(titles(answer.songs)) == set(called(0, 1, 2, 3))


def test_artists_count_by_recency(fake: FakeRelease) -> None:
    # Artist 0's mean lies at 10 degrees, .99 long; artist 3's song at 90. Half of the one and the
    # other make 66 degrees, the one and half of the other 35.
    assert titles(ask(fake, [OF_ARTIST_0, OF_ARTIST_3]).songs)[:2] == called(7, 6)
    assert titles(ask(fake, [OF_ARTIST_3, OF_ARTIST_0]).songs)[:2] == called(3, 4)


def test_popular_songs_answer_where_neither_is_known(fake: FakeRelease) -> None:
    answer = ask(fake, [OF_NOBODY], limit=3)
    assert answer.strategy is Strategy.POPULAR
    assert titles(answer.songs) == called(9, 8, 7)
    assert [hit.score for hit in answer.songs] == [100 / 200, 90 / 200, 80 / 200]
    assert [seed.resolution for seed in answer.seeds] == [Resolution.UNKNOWN]


def test_popular_scores_survive_a_release_of_no_playlists() -> None:
    answer = ask(FakeRelease(SONGS, training_playlists=0), [OF_NOBODY], limit=1)
    assert titles(answer.songs) == called(9)


def test_no_seeds_at_all_are_a_playlist_of_unknown_songs(fake: FakeRelease) -> None:
    answer = ask(fake, [], limit=2)
    assert (answer.strategy, titles(answer.songs)) == (Strategy.POPULAR, called(9, 8))


def test_seeds_are_never_returned(fake: FakeRelease) -> None:
    answer = ask(fake, [*songs(0, 3, 3), Seed(artist="artist 1", title="SONG 4"), OF_ARTIST_0])
    assert sorted(titles(answer.songs)) == called(1, 2, 5, 6, 7, 8, 9)


def test_seeds_are_left_out_beside_the_songs_of_the_filter(fake: FakeRelease) -> None:
    answer = ask(fake, songs(0), where=but("Song 1", "Song 2"))
    assert sorted(titles(answer.songs)) == called(3, 4, 5, 6, 7, 8, 9)


def test_a_playlist_of_the_whole_catalog_leaves_nothing(fake: FakeRelease) -> None:
    answer = ask(fake, songs(*range(10)))
    assert (answer.songs, answer.strategy) == ([], Strategy.SEEDS)


@pytest.mark.parametrize("seeds", [songs(4), [OF_ARTIST_0], [OF_NOBODY]], ids=list("sap"))
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
        (but("Song 0", "Song 9"), (1, 2, 3, 5, 6, 7, 8)),
        (Filter(min_playlists=80), (7, 8, 9)),
        (Filter(max_playlists=30), (0, 1, 2)),
        (Filter(min_playlists=20, max_playlists=20), (1,)),
        (Filter(min_playlists=20, include_artists=frozenset(["artist 0"])), (1, 2)),
        (Filter(include_artists=frozenset(["nobody"])), ()),
        (Filter(min_playlists=101), ()),
    ],
)
def test_every_strategy_obeys_the_filter(
    fake: FakeRelease, seeds: list[Seed], where: Filter, expected: tuple[int, ...]
) -> None:
    found = {*titles(ask(fake, seeds, where=where).songs)} - {"Song 4"}
    assert found == set(called(*expected))


def test_a_filter_does_not_change_how_seeds_are_understood(fake: FakeRelease) -> None:
    nobody = Filter(include_artists=frozenset(["nobody"]))
    for seeds, strategy in [
        (songs(0), Strategy.SEEDS),
        ([OF_ARTIST_0], Strategy.ARTISTS),
        ([OF_NOBODY], Strategy.POPULAR),
    ]:
        answer = ask(fake, seeds, where=nobody)
        assert (answer.songs, answer.strategy) == ([], strategy)


def test_similar_leaves_the_song_itself_out(fake: FakeRelease) -> None:
    song, hits = asyncio.run(similar(fake, Seed(artist="ARTIST 1", title="song 4"), 10))
    assert song == SONGS[4].song
    assert len(hits) == 9
    assert set(titles(hits)[:2]) == {"Song 3", "Song 5"}
    assert hits[0].score == pytest.approx(np.cos(np.radians(10)), abs=1e-6)


def test_similar_obeys_limit_and_filter(fake: FakeRelease) -> None:
    (seed,) = songs(4)
    where = replace(but("Song 6"), exclude_artists=frozenset(["artist 1"]))
    _, hits = asyncio.run(similar(fake, seed, 2, where))
    assert titles(hits) == called(2, 7)


@pytest.mark.parametrize("seed", [OF_ARTIST_0, OF_NOBODY], ids=["artist known", "unknown"])
def test_similar_wants_a_song_that_is_known(fake: FakeRelease, seed: Seed) -> None:
    with pytest.raises(UnknownSongError, match=f"no song {seed.artist} - {seed.title}; look"):
        asyncio.run(similar(fake, seed))


def test_an_unknown_id_is_named(fake: FakeRelease) -> None:
    unknown = points_of(("Nobody", "Nothing", 1, (1, 0)))[0].song.song_id
    with pytest.raises(UnknownSongError, match=f"no song {unknown}; look"):
        asyncio.run(similar(fake, Seed(song_id=unknown)))


def test_a_long_name_is_cut_in_the_message(fake: FakeRelease) -> None:
    with pytest.raises(UnknownSongError) as caught:
        asyncio.run(similar(fake, Seed(artist="a" * 10_000, title="b")))
    assert len(str(caught.value)) < 200


# The same on a real release, against NumPy over all of its vectors.


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

    def some(most: int) -> frozenset[str]:
        return frozenset(random.choice(artists, random.integers(1, most)).tolist())

    low, high = sorted(random.choice(counts, 2).tolist())
    excluded = [points[place].song.song_id for place in random.integers(0, len(points), 40)]
    use = random.random(5) < 0.4
    return Filter(
        include_artists=some(25) if use[0] else frozenset(),
        exclude_artists=some(25) if use[1] else frozenset(),
        exclude_songs=frozenset([*excluded, *seeds[:1]]) if use[2] else frozenset(),
        min_playlists=low if use[3] else 0,
        max_playlists=high if use[4] else 0,
    )


def random_seeds(
    points: list[Point], strategy: Strategy, random: np.random.Generator
) -> tuple[list[Seed], list[UUID]]:
    """Seeds that this strategy must answer, and the ids of those that are known."""
    artists = sorted({point.song.artist for point in points})
    unknown = [Seed(artist=f"Nobody {place}", title="?") for place in range(random.integers(1, 3))]
    lost = [
        Seed(artist=str(artist).upper(), title="no such title")
        for artist in random.choice(artists, random.integers(1, 4))
    ]
    places = random.integers(0, len(points), random.integers(1, 9))
    chosen = [points[place].song for place in places]
    seeds = unknown
    if strategy is not Strategy.POPULAR:
        seeds = seeds + lost
    if strategy is Strategy.SEEDS:
        seeds = seeds + [
            Seed(song.song_id)
            if random.random() < 0.5
            else Seed(artist=f" {song.artist.upper()} ", title=song.title.lower())
            for song in chosen
        ]
    order = random.permutation(len(seeds))
    weighted = [replace(seeds[place], weight=float(random.uniform(0.1, 3))) for place in order]
    known = [song.song_id for song in chosen] if strategy is Strategy.SEEDS else []
    return weighted, known


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("seed", range(20))
def test_a_real_release_answers_as_brute_force_does(
    real: OpenRelease, all_points: list[Point], strategy: Strategy, seed: int
) -> None:
    random = np.random.default_rng(seed)
    seeds, known = random_seeds(all_points, strategy, random)
    where = random_filter(all_points, known, random)
    limit = int(random.choice([1, 10, 500]))

    answer = ask(real, seeds, limit, where)

    scores = brute_force_scores(real, all_points, seeds, strategy)
    own = frozenset(known)
    allowed = {
        point.song.song_id: float(score)
        for point, score in zip(all_points, scores, strict=True)
        if passes(point.song, where) and point.song.song_id not in own and np.isfinite(score)
    }
    best = sorted(allowed.values(), reverse=True)[:limit]
    found: list[Song] = [hit.song for hit in answer.songs]
    assert answer.strategy is strategy
    assert len({song.song_id for song in found}) == len(found)
    assert [hit.score for hit in answer.songs] == pytest.approx(best, abs=1e-5)
    assert [allowed[song.song_id] for song in found] == pytest.approx(best, abs=1e-5)
    assert {song.song_id for song in found} <= allowed.keys()


def brute_force_scores(
    release: OpenRelease, points: list[Point], seeds: list[Seed], strategy: Strategy
) -> np.ndarray:
    if strategy is Strategy.POPULAR:
        playlists = np.array([point.song.playlists for point in points])
        return playlists / release.manifest.counts.training_playlists
    decay = release.manifest.origin.parameters["query_decay"]
    total = np.zeros(release.manifest.dimensions)
    for age, seed in enumerate(reversed(seeds)):
        same_artist = [
            point for point in points if point.song.artist.lower() == seed.artist.lower().strip()
        ]
        itself = [
            point
            for point in points
            if point.song.song_id == seed.song_id
            or (point in same_artist and point.song.title.lower() == seed.title)
        ]
        used = itself if strategy is Strategy.SEEDS else same_artist[:10]
        vectors = [point.vector for point in used if point.vector is not None]
        if vectors:
            total += seed.weight * decay**age * np.mean(vectors, axis=0)
    unit = total / np.linalg.norm(total)
    return np.array([-np.inf if p.vector is None else p.vector @ unit for p in points])


@pytest.mark.parametrize("strategy", Strategy)
def test_a_real_filter_that_leaves_nothing_gives_an_empty_answer(
    real: OpenRelease, all_points: list[Point], strategy: Strategy
) -> None:
    seeds, _ = random_seeds(all_points, strategy, np.random.default_rng(1))
    for where in [Filter(include_artists=frozenset(["nobody"])), Filter(min_playlists=100_000)]:
        answer = ask(real, seeds, where=where)
        assert (answer.songs, answer.strategy) == ([], strategy)


@pytest.mark.parametrize("place", [0, 1, 100, -1])
def test_similar_on_a_real_release_answers_as_brute_force_does(
    real: OpenRelease, all_points: list[Point], place: int
) -> None:
    having = [point for point in all_points if point.vector is not None]
    itself = having[place]
    song, hits = asyncio.run(similar(real, Seed(song_id=itself.song.song_id), 20))
    others = [point.vector for point in having if point is not itself]
    scores = np.array(others) @ itself.vector
    assert song == itself.song
    assert itself.song not in [hit.song for hit in hits]
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores)[::-1][:20], abs=1e-5)


def test_every_song_of_a_real_release_is_found_by_its_name(
    real: OpenRelease, all_points: list[Point]
) -> None:
    seeds = [
        Seed(artist=point.song.artist.swapcase(), title=point.song.title) for point in all_points
    ]
    resolved = asyncio.run(resolve(real, seeds))
    assert [seed.points[0].song for seed in resolved] == [point.song for point in all_points]
    assert all(seed.resolution is Resolution.SONG for seed in resolved)
    assert embed(resolved, 0.9) is not None
