"""Resolution of seeds to songs of the catalog."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest

from catalog.embedded.store import EmbeddedStore
from catalog.song import song_id
from service.recommend.seeds import (
    Resolution,
    ResolvedSeed,
    Seed,
    find_artists,
    resolve_seeds,
)
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
NOBODY = UUID(int=1)

BJORK = ("Björk", "Jóga", 9, X)
ABBA = ("ABBA", "Waterloo", 8, Y)
ABBA_TOO = ("ABBA", "Fernando", 7, Z)


def resolve(release: OpenRelease, *seeds: Seed) -> list[ResolvedSeed]:
    return asyncio.run(resolve_seeds(release, seeds))


def title_of(seed: ResolvedSeed) -> str | None:
    return seed.point.song.title if seed.point else None


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
def test_spellings_of_a_name_resolve_to_the_same_song(
    small: FakeRelease, artist: str, title: str
) -> None:
    (seed,) = resolve(small, Seed(artist=artist, title=title))
    assert seed.resolution is Resolution.SONG
    assert title_of(seed) == "Jóga"


@pytest.mark.parametrize("track_ids", [[], ["a", "b", "c", "d"]], ids=["names", "track ids"])
def test_a_title_alone_is_the_song_without_an_artist(track_ids: list[str]) -> None:
    rows = (
        ("Dido", "Milk", 9, X),
        ("", "Milk & Eggs", 8, Y),
        ("", "Milk", 7, Y),
        ("", "Tea", 6, Z),
    )
    release = FakeRelease(points_of(*rows, track_ids=track_ids), track_ids=bool(track_ids))
    resolved = resolve(
        release,
        Seed(title="MILK"),
        Seed(artist="Dido", title="Milk"),
        Seed(title="Eggs"),
        Seed(artist="Nobody", title="Tea"),
    )
    names = [seed.point and (seed.point.song.artist, seed.point.song.title) for seed in resolved]
    assert names == [("", "Milk"), ("Dido", "Milk"), None, None]
    assert resolved[2].resolution is Resolution.UNKNOWN


def test_runs_of_spaces_are_equal_to_one_space() -> None:
    release = FakeRelease(points_of(("The  Cure", "A Forest", 1, X)))
    (seed,) = resolve(release, Seed(artist="the cure", title="a \u00a0 forest"))
    assert title_of(seed) == "A Forest"


def test_words_are_not_joined_or_reordered() -> None:
    release = FakeRelease(points_of(("The Cure", "A Forest", 1, X)))
    for artist, title in [
        ("TheCure", "A Forest"),
        ("Cure The", "A Forest"),
        ("A Forest", "The Cure"),
    ]:
        (seed,) = resolve(release, Seed(artist=artist, title=title))
        assert seed.resolution is Resolution.UNKNOWN


@pytest.mark.parametrize("title", ["A Forest - 2006 Remaster", "A Forest (feat. Nobody)"])
def test_a_version_resolves_to_the_plain_title(title: str) -> None:
    release = FakeRelease(points_of(("The Cure", "A Forest", 1, X)))
    (seed,) = resolve(release, Seed(artist="The Cure", title=title))
    assert title_of(seed) == "A Forest"
    (seed,) = resolve(release, Seed(artist="The Cure", title="A Forest - Live"))
    assert seed.resolution is not Resolution.SONG


def test_a_version_in_the_catalog_precedes_the_plain_title() -> None:
    songs = [("The Cure", "A Forest", 9, X), ("The Cure", "A Forest - 2006 Remaster", 1, Y)]
    release = FakeRelease(points_of(*songs))
    (seed,) = resolve(release, Seed(artist="the cure", title="A Forest - 2006 remaster"))
    assert title_of(seed) == "A Forest - 2006 Remaster"


def test_an_id_precedes_a_name(small: FakeRelease) -> None:
    (seed,) = resolve(
        small, Seed(song_id=song_id("ABBA", "Fernando"), artist="Björk", title="Jóga")
    )
    assert (seed.resolution, title_of(seed)) == (Resolution.SONG, "Fernando")


def test_the_name_is_used_if_the_id_is_unknown(small: FakeRelease) -> None:
    (seed,) = resolve(small, Seed(song_id=NOBODY, artist="abba", title="waterloo"))
    assert (seed.resolution, title_of(seed)) == (Resolution.SONG, "Waterloo")


def test_an_unknown_song_keeps_the_normalised_artist_of_the_query(small: FakeRelease) -> None:
    for seed in (Seed(NOBODY, " ABBA", "SOS"), Seed(NOBODY, "abba")):
        assert resolve(small, seed) == [ResolvedSeed(Resolution.UNKNOWN, None, 1.0, "abba")]


def test_artists_of_seeds_and_songs_are_known(small: FakeRelease) -> None:
    seeds = resolve(
        small,
        Seed(artist="Abba", title="SOS"),
        Seed(artist="Björk", title="?"),
        Seed(artist="ABBA", title="Fernando"),
        Seed(artist="nobody", title="?"),
        Seed(song_id=NOBODY),
    )
    artist, unknown, song = Resolution.ARTIST, Resolution.UNKNOWN, Resolution.SONG
    resolutions = [seed.resolution for seed in find_artists(seeds, [])]
    assert resolutions == [artist, unknown, song, unknown, unknown]
    (joga,) = points_of(BJORK)
    resolutions = [seed.resolution for seed in find_artists(seeds, [joga.song])]
    assert resolutions == [artist, artist, song, unknown, unknown]


@pytest.mark.parametrize(
    "seed",
    [Seed(song_id=NOBODY), Seed(artist="nobody", title="Waterloo"), Seed(NOBODY, " ", "Jóga")],
    ids=["id", "name", "blank artist"],
)
def test_other_seeds_are_unknown(small: FakeRelease, seed: Seed) -> None:
    (resolved,) = resolve(small, seed)
    assert (resolved.resolution, resolved.point) == (Resolution.UNKNOWN, None)


def test_seeds_are_resolved_in_order(small: FakeRelease) -> None:
    seeds = resolve(
        small,
        Seed(artist="ABBA", title="SOS", weight=2.0),
        Seed(song_id=song_id("ABBA", "Waterloo"), weight=3.0),
        Seed(song_id=NOBODY, weight=4.0),
        Seed(artist="abba", title="waterloo"),
        Seed(song_id=song_id("ABBA", "Waterloo"), weight=5.0),
    )
    assert [seed.weight for seed in seeds] == [2.0, 3.0, 4.0, 1.0, 5.0]
    assert [title_of(seed) for seed in seeds] == [None, "Waterloo", None, "Waterloo", "Waterloo"]


def test_no_seeds_resolve_to_no_seeds(small: FakeRelease) -> None:
    assert resolve(small) == []


def test_no_artist_is_looked_up(small: FakeRelease) -> None:
    resolve(small, *[Seed(artist=name, title="?") for name in ["ABBA", "abba", "Nobody"] * 9])
    assert small.call_counts == {"points": 1}


# Songs identified by track ids, so that artist and title need not be unique

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
    store = EmbeddedStore(tmp_path_factory.mktemp("tracks"))
    publish(store, SAME_NAMES, track_ids=True)
    release = store.open()
    yield release
    release.close()


@pytest.fixture(params=["fake", "real"])
def tracked(request: pytest.FixtureRequest) -> OpenRelease:
    if request.param == "fake":
        return FakeRelease(SAME_NAMES, track_ids=True)
    release: OpenRelease = request.getfixturevalue("tracks")
    return release


def test_the_most_popular_song_of_the_name_is_chosen(tracked: OpenRelease) -> None:
    (seed,) = resolve(tracked, Seed(artist="nena", title="99 LUFTBALLONS"))
    assert seed.resolution is Resolution.SONG
    assert seed.point
    assert seed.point.song == SAME_NAMES[1].song
    np.testing.assert_allclose(seed.point.vector, Y)


def test_a_track_id_precedes_the_name(tracked: OpenRelease) -> None:
    unpopular = SAME_NAMES[0].song
    (seed,) = resolve(tracked, Seed(unpopular.song_id, unpopular.artist, unpopular.title))
    assert seed.point
    assert seed.point.song == unpopular


@pytest.mark.parametrize("index", [5, 6, 7, 8], ids=["signs", "long", "kana", "ship"])
def test_names_without_plain_words_are_found(tracked: OpenRelease, index: int) -> None:
    song = SAME_NAMES[index].song
    (seed,) = resolve(tracked, Seed(artist=song.artist, title=song.title))
    assert (seed.resolution, title_of(seed)) == (Resolution.SONG, song.title)


def test_the_beginning_of_a_title_is_not_enough(tracked: OpenRelease) -> None:
    (seed,) = resolve(tracked, Seed(artist="Nena", title="99 Luft"))
    assert seed.resolution is Resolution.UNKNOWN
    (seed,) = resolve(tracked, Seed(artist="Nobody", title="99 Luftballons"))
    assert seed.resolution is Resolution.UNKNOWN


def test_releases_without_track_ids_are_not_searched_by_name(small: FakeRelease) -> None:
    resolve(small, Seed(artist="ABBA", title="SOS"))
    assert "search" not in small.call_counts
