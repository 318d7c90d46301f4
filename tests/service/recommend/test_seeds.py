"""Seeds: how a playlist's songs are understood, and the one vector that speaks for them."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.embedded.store import EmbeddedStore
from catalog.song import song_id
from service.recommend.seeds import ARTIST_SONGS, Resolution, ResolvedSeed, Seed, embed, resolve
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from catalog.model import Point
    from catalog.store import OpenRelease

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
NOBODY = UUID(int=1)

BJORK = ("Björk", "Jóga", 9, X)
ABBA = ("ABBA", "Waterloo", 8, Y)
ABBA_TOO = ("ABBA", "Fernando", 7, Z)


def resolved_by(release: OpenRelease, *seeds: Seed) -> list[ResolvedSeed]:
    return asyncio.run(resolve(release, seeds))


def titles(seed: ResolvedSeed) -> list[str]:
    return [point.song.title for point in seed.points]


@pytest.fixture
def small() -> FakeRelease:
    return FakeRelease(points_of(BJORK, ABBA, ABBA_TOO))


@pytest.mark.parametrize(
    ("artist", "title"),
    [
        ("Björk", "Jóga"),
        ("BJÖRK", "JÓGA"),
        ("bjork", "joga"),
        ("\uff22\uff4aörk", "\uff2aóga"),
        (unicodedata.normalize("NFD", "Björk"), unicodedata.normalize("NFD", "Jóga")),
        ("  Björk\t", "\n Jóga\u3000"),
    ],
    ids=["same", "case", "accents", "width", "decomposed", "spaces"],
)
def test_a_name_is_found_however_it_is_spelled(small: FakeRelease, artist: str, title: str) -> None:
    (seed,) = resolved_by(small, Seed(artist=artist, title=title))
    assert seed.resolution is Resolution.SONG
    assert titles(seed) == ["Jóga"]


def test_inner_runs_of_spaces_are_one_space() -> None:
    release = FakeRelease(points_of(("The  Cure", "A Forest", 1, X)))
    (seed,) = resolved_by(release, Seed(artist="the cure", title="a \u00a0 forest"))
    assert titles(seed) == ["A Forest"]


def test_words_are_not_joined_or_reordered() -> None:
    release = FakeRelease(points_of(("The Cure", "A Forest", 1, X)))
    for artist, title in [
        ("TheCure", "A Forest"),
        ("Cure The", "A Forest"),
        ("A Forest", "The Cure"),
    ]:
        (seed,) = resolved_by(release, Seed(artist=artist, title=title))
        assert seed.resolution is Resolution.UNKNOWN


@pytest.mark.parametrize("title", ["A Forest - 2006 Remaster", "A Forest (feat. Nobody)"])
def test_a_version_is_found_under_the_plain_title(title: str) -> None:
    release = FakeRelease(points_of(("The Cure", "A Forest", 1, X)))
    (seed,) = resolved_by(release, Seed(artist="The Cure", title=title))
    assert titles(seed) == ["A Forest"]
    (seed,) = resolved_by(release, Seed(artist="The Cure", title="A Forest - Live"))
    assert seed.resolution is not Resolution.SONG


def test_a_version_that_the_catalog_has_goes_before_the_plain_title() -> None:
    songs = [("The Cure", "A Forest", 9, X), ("The Cure", "A Forest - 2006 Remaster", 1, Y)]
    release = FakeRelease(points_of(*songs))
    (seed,) = resolved_by(release, Seed(artist="the cure", title="A Forest - 2006 remaster"))
    assert titles(seed) == ["A Forest - 2006 Remaster"]


def test_an_id_goes_before_a_name(small: FakeRelease) -> None:
    (seed,) = resolved_by(
        small, Seed(song_id=song_id("ABBA", "Fernando"), artist="Björk", title="Jóga")
    )
    assert (seed.resolution, titles(seed)) == (Resolution.SONG, ["Fernando"])


def test_a_name_helps_out_where_the_id_is_unknown(small: FakeRelease) -> None:
    (seed,) = resolved_by(small, Seed(song_id=NOBODY, artist="abba", title="waterloo"))
    assert (seed.resolution, titles(seed)) == (Resolution.SONG, ["Waterloo"])


def test_the_artist_helps_out_where_id_and_title_are_unknown(small: FakeRelease) -> None:
    (seed,) = resolved_by(small, Seed(song_id=NOBODY, artist="abba", title="SOS"))
    assert (seed.resolution, titles(seed)) == (Resolution.ARTIST, ["Waterloo", "Fernando"])


def test_the_artist_alone_is_enough_beside_an_unknown_id(small: FakeRelease) -> None:
    (seed,) = resolved_by(small, Seed(song_id=NOBODY, artist="abba"))
    assert (seed.resolution, titles(seed)) == (Resolution.ARTIST, ["Waterloo", "Fernando"])


@pytest.mark.parametrize(
    "seed",
    [Seed(song_id=NOBODY), Seed(artist="nobody", title="Waterloo"), Seed(NOBODY, " ", "Jóga")],
    ids=["id", "name", "blank artist"],
)
def test_what_cannot_be_found_is_unknown(small: FakeRelease, seed: Seed) -> None:
    assert resolved_by(small, seed) == [ResolvedSeed(Resolution.UNKNOWN, (), 1.0)]


def test_there_is_an_answer_for_each_seed_in_order(small: FakeRelease) -> None:
    seeds = resolved_by(
        small,
        Seed(artist="ABBA", title="SOS", weight=2.0),
        Seed(song_id=song_id("ABBA", "Waterloo"), weight=3.0),
        Seed(song_id=NOBODY, weight=4.0),
        Seed(artist="abba", title="waterloo"),
        Seed(song_id=song_id("ABBA", "Waterloo"), weight=5.0),
    )
    assert [seed.weight for seed in seeds] == [2.0, 3.0, 4.0, 1.0, 5.0]
    assert [titles(seed) for seed in seeds] == [
        ["Waterloo", "Fernando"],
        ["Waterloo"],
        [],
        ["Waterloo"],
        ["Waterloo"],
    ]


def test_no_seeds_resolve_to_nothing(small: FakeRelease) -> None:
    assert resolved_by(small) == []


def test_stand_ins_are_the_best_known_songs_of_the_artist() -> None:
    songs = [("Many", f"Song {place}", place, X) for place in range(1, ARTIST_SONGS + 3)]
    (seed,) = resolved_by(FakeRelease(points_of(*songs)), Seed(artist="MANY", title="Other"))
    best = range(ARTIST_SONGS + 2, 2, -1)
    assert titles(seed) == [f"Song {place}" for place in best]


def test_an_artist_is_asked_for_once(small: FakeRelease) -> None:
    resolved_by(small, *[Seed(artist=name, title="?") for name in ["ABBA", "abba", "Nobody"] * 9])
    assert small.asked == {"points": 1, "popular": 2}


# Songs that are identified by track ids of their source may share artist and title.

SAME_NAMES = points_of(
    ("Nena", "99 Luftballons", 3, X),
    ("Nena", "99 Luftballons", 9, Y),
    ("NENA", "99 luftballons", 5, Z),
    ("Nena", "99 Luftballons (live)", 20, X),
    ("Goldfinger", "99 Luftballons", 30, X),
    ("Nena", "???", 4, Y),
    ("Nena", "\u8d85" * 30, 2, Z),
    ("\u3086\u3089\u3086\u3089\u5e1d\u56fd", "\u3067\u3082\u3000\u307e\u3060", 1, X),
    ("Nena", "Donaudampfschifffahrtsgesellschaft", 6, Z),
    track_ids=["nena-1", "nena-2", "nena-3", "live", "cover", "signs", "long", "kana", "ship"],
)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    home = EmbeddedStore(tmp_path_factory.mktemp("tracks"))
    publish(home, SAME_NAMES, track_ids=True)
    release = home.open()
    yield release
    release.close()


@pytest.fixture(params=["fake", "real"])
def tracked(request: pytest.FixtureRequest) -> OpenRelease:
    if request.param == "fake":
        return FakeRelease(SAME_NAMES, track_ids=True)
    release: OpenRelease = request.getfixturevalue("tracks")
    return release


def test_the_best_known_of_equal_names_is_meant(tracked: OpenRelease) -> None:
    (seed,) = resolved_by(tracked, Seed(artist="nena", title="99 LUFTBALLONS"))
    assert seed.resolution is Resolution.SONG
    assert [point.song for point in seed.points] == [SAME_NAMES[1].song]
    np.testing.assert_allclose(seed.points[0].vector, Y)


def test_a_track_is_found_by_its_own_id_first(tracked: OpenRelease) -> None:
    least = SAME_NAMES[0].song
    (seed,) = resolved_by(tracked, Seed(least.song_id, least.artist, least.title))
    assert [point.song for point in seed.points] == [least]


@pytest.mark.parametrize("place", [5, 6, 7, 8], ids=["signs", "long", "kana", "ship"])
def test_names_without_plain_words_are_found_too(tracked: OpenRelease, place: int) -> None:
    song = SAME_NAMES[place].song
    (seed,) = resolved_by(tracked, Seed(artist=song.artist, title=song.title))
    assert (seed.resolution, titles(seed)) == (Resolution.SONG, [song.title])


def test_a_title_that_only_begins_alike_is_another_song(tracked: OpenRelease) -> None:
    (seed,) = resolved_by(tracked, Seed(artist="Nena", title="99 Luft"))
    assert seed.resolution is Resolution.ARTIST
    (seed,) = resolved_by(tracked, Seed(artist="Nobody", title="99 Luftballons"))
    assert seed.resolution is Resolution.UNKNOWN


def test_only_releases_of_track_ids_are_searched_by_name(small: FakeRelease) -> None:
    resolved_by(small, Seed(artist="ABBA", title="SOS"))
    assert "search" not in small.asked


# One vector for the playlist. Seeds are given in play order, the last one the most recent.


def known(vector: Sequence[float], weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.SONG, (point(vector),), weight)


def stand_ins(*vectors: Sequence[float], weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.ARTIST, tuple(point(vector) for vector in vectors), weight)


def unknown(weight: float = 1.0) -> ResolvedSeed:
    return ResolvedSeed(Resolution.UNKNOWN, (), weight)


def point(vector: Sequence[float]) -> Point:
    (only,) = points_of(("Artist", f"{vector}", 1, vector))
    return only


def minus(vector: Sequence[float]) -> list[float]:
    return [-number for number in vector]


@pytest.mark.parametrize(
    ("seeds", "decay", "direction"),
    [
        ([known(X)], 0.9, X),
        ([known(X), known(Y), known(Z)], 1.0, (1, 1, 1)),
        ([known(X), known(Y), known(Z)], 0.5, (0.25, 0.5, 1)),
        ([known(X), known(Y), known(Z)], 0.0, Z),
        ([known(X, 4.0), known(Y, 2.0), known(Z)], 0.5, (1, 1, 1)),
        ([known(X, 3.0), known(Y)], 1.0, (3, 1, 0)),
        ([known(X), known(Y, 1000.0)], 0.5, (0.5, 1000, 0)),
        ([known(X), known(Y), known(X)], 1.0, (2, 1, 0)),
        ([known(X), known(Y), known(X)], 0.5, (1.25, 0.5, 0)),
        ([known(X), unknown(), known(Y)], 0.5, (0.25, 1, 0)),
        ([known(X), known(Y), unknown()], 0.5, (0.5, 1, 0)),
        ([known(X), known(Y), unknown(), unknown()], 0.0, Y),
        ([stand_ins(X, Y), known(Z)], 1.0, (0.5, 0.5, 1)),
        ([stand_ins(X, X, X, Y), known(Z)], 0.5, (0.375, 0.125, 1)),
        ([stand_ins(X, Y, weight=4.0), stand_ins(Z)], 1.0, (2, 2, 1)),
    ],
    ids=[
        "one",
        "no decay",
        "half",
        "decay 0: the last alone",
        "weights against decay",
        "weights",
        "heaviest weight",
        "a seed twice",
        "a seed twice, decayed",
        "unknown seeds age the ones before",
        "unknown seeds at the end",
        "decay 0, the last ones unknown",
        "an artist's songs share a count",
        "an artist's songs share a count, decayed",
        "an artist's songs share a weight",
    ],
)
def test_recent_and_heavy_seeds_count_more(
    seeds: list[ResolvedSeed], decay: float, direction: Sequence[float]
) -> None:
    vector = embed(seeds, decay)
    assert vector is not None
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, direction / np.linalg.norm(direction), atol=1e-6)


@pytest.mark.parametrize(
    ("seeds", "decay", "direction"),
    [
        ([known(X), known(minus(X))], 1.0, minus(X)),
        ([known(minus(X), 0.25), known(X, 0.25)], 1.0, X),
        ([known(X, 2.0), known(minus(X))], 0.5, minus(X)),
        ([known(X), known(minus(X)), unknown()], 1.0, minus(X)),
        ([stand_ins(Y, minus(Y))], 0.9, Y),
        ([known(X), stand_ins(minus(X))], 1.0, minus(X)),
    ],
    ids=["plain", "light", "by weight", "before an unknown one", "one artist", "an artist last"],
)
def test_where_seeds_cancel_out_the_most_recent_speaks(
    seeds: list[ResolvedSeed], decay: float, direction: Sequence[float]
) -> None:
    vector = embed(seeds, decay)
    assert vector is not None
    np.testing.assert_allclose(vector, direction, atol=1e-6)


def test_opposites_of_unequal_counts_do_not_cancel_out() -> None:
    vector = embed([known(X), known(minus(X))], 0.5)
    assert vector is not None
    np.testing.assert_allclose(vector, minus(X))


@pytest.mark.parametrize("seeds", [[], [unknown()], [unknown(), unknown(5.0)]])
def test_without_a_known_song_there_is_no_vector(seeds: list[ResolvedSeed]) -> None:
    assert embed(seeds, 0.9) is None


@pytest.mark.parametrize("decay", [0.9, 0.5, 0.01])
def test_counts_keep_their_ratio_however_far_back_they_lie(decay: float) -> None:
    vector = embed([known(X), known(Y), *[unknown()] * 998], decay)
    expected = np.array([decay, 1.0, 0.0])
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("unit", [1e-45, 1e-30, 1e-6, 1.0, 500.0])
def test_only_the_ratio_of_weights_counts(unit: float) -> None:
    vector = embed([known(X, 2 * unit), known(Y, unit)], 1.0)
    np.testing.assert_allclose(vector, np.array([2.0, 1.0, 0.0]) / np.sqrt(5), atol=1e-6)


vectors = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(
    lambda vector: np.linalg.norm(vector) > 0.1
)
seed_lists = st.lists(
    st.one_of(
        st.builds(known, vectors, st.floats(1e-45, 1000.0)),
        st.lists(vectors, min_size=1, max_size=4).map(lambda some: stand_ins(*some)),
        st.builds(unknown, st.just(1.0)),
    ),
    max_size=20,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(seed_lists, st.floats(0, 1))
def test_any_playlist_gives_a_unit_vector_or_none(seeds: list[ResolvedSeed], decay: float) -> None:
    vector = embed(seeds, decay)
    if any(seed.points for seed in seeds):
        assert vector is not None
        assert vector.shape == (3,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    else:
        assert vector is None
