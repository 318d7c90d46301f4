"""Versions of a song in recommendations, on `FakeRelease` and on Qdrant Edge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from catalog.embedded.store import EmbeddedStore
from service.recommend.engine import find_similar, recommend
from service.recommend.query import Mode, Query
from service.recommend.recordings import identify_recording
from service.recommend.seeds import Seed
from tests.support.fakes import FakeRelease, points_of, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.store import OpenRelease

POINTS = points_of(
    ("ABBA", "Waterloo", 90, (1.0, 0.0)),
    ("ABBA", "Waterloo - Live at Wembley", 80, (1.0, 0.1)),
    ("ABBA", "Waterloo (2011 Remaster)", 70, (1.0, 0.2)),
    ("Queen", "Heroes - Live", 60, (1.0, 0.3)),
    ("Queen", "Heroes", 50, (1.0, 0.4)),
    ("Queen", "Heroes (feat. Bowie) [Radio Edit]", 45, (1.0, 0.45)),
    ("Bowie", "Heroes", 40, (1.0, 0.5)),
    ("Queen", "Heroes - Acoustic", 30, (1.0, 0.6)),
    ("", "Waterloo", 20, (1.0, 0.7)),
    ("", "Heroes - Live", 10, (1.0, 0.8)),
    ("", "Heroes", 9, (1.0, 0.9)),
)
WEIGHTS = {0: {song: 20.0 - song for song in range(1, len(POINTS))}}
ONCE = [("Queen", "Heroes - Live"), ("Bowie", "Heroes"), ("Queen", "Heroes - Acoustic")]
ONCE += [("", "Waterloo"), ("", "Heroes - Live"), ("", "Heroes")]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRelease]:
    store = EmbeddedStore(tmp_path_factory.mktemp("recordings"))
    publish(store, POINTS, strengths=WEIGHTS)
    release = store.open()
    yield release
    release.close()


@pytest.fixture(params=["fake", "edge"])
def release(request: pytest.FixtureRequest, real: OpenRelease) -> OpenRelease:
    return FakeRelease(POINTS, strengths=WEIGHTS) if request.param == "fake" else real


def names(release: OpenRelease, query: Query) -> list[tuple[str, str]]:
    songs = asyncio.run(recommend(release, query)).songs
    return [(hit.song.artist, hit.song.title) for hit in songs]


@pytest.mark.parametrize("mode", [Mode.DENSE, Mode.COOCCURRENCE, Mode.HYBRID])
def test_a_recommendation_has_each_recording_once_and_no_seed(
    release: OpenRelease, mode: Mode
) -> None:
    seeds = [Seed(artist="ABBA", title="Waterloo")]
    assert names(release, Query(seeds, 6, mode=mode)) == ONCE
    assert names(release, Query(seeds, 10, mode=mode)) == ONCE


def test_songs_with_lower_scores_replace_versions(release: OpenRelease) -> None:
    seeds = [Seed(artist="ABBA", title="Waterloo")]
    for limit in range(1, 7):
        query = Query(seeds, limit, mode=Mode.COOCCURRENCE)
        assert names(release, query) == ONCE[:limit]


def test_versions_are_allowed_on_request(release: OpenRelease) -> None:
    query = Query(
        [Seed(artist="ABBA", title="Waterloo")], 10, mode=Mode.COOCCURRENCE, allow_versions=True
    )
    assert names(release, query) == [(point.song.artist, point.song.title) for point in POINTS[1:]]


def test_a_seed_that_the_catalog_lacks_suppresses_its_versions(release: OpenRelease) -> None:
    seeds = [
        Seed(artist="ABBA", title="Waterloo"),
        Seed(artist="queen", title="Heroes (Demo)"),  # a demo is a different recording
        Seed(artist="Bowie", title="Heroes - 1999 Remaster", weight=-1),
    ]
    expected = [name for name in ONCE if name != ("Bowie", "Heroes")]
    assert names(release, Query(seeds, 10, mode=Mode.COOCCURRENCE)) == expected
    seeds = [Seed(artist="Queen", title="Heroes - Mono / Unheard"), *seeds[:1]]
    assert ("Queen", "Heroes - Live") in names(release, Query(seeds, 10, mode=Mode.COOCCURRENCE))


def test_popular_songs_have_each_recording_once(release: OpenRelease) -> None:
    assert names(release, Query([Seed(artist="Nobody", title="?")], 3)) == [
        ("ABBA", "Waterloo"),
        ("Queen", "Heroes - Live"),
        ("Bowie", "Heroes"),
    ]


def test_similar_songs_have_each_recording_once(release: OpenRelease) -> None:
    seed = Seed(artist="ABBA", title="Waterloo")
    _, found = asyncio.run(find_similar(release, seed, 3))
    assert [(hit.song.artist, hit.song.title) for hit in found.songs] == ONCE[:3]
    _, found = asyncio.run(find_similar(release, seed, 2, allow_versions=True))
    assert [hit.song.title for hit in found.songs] == [
        "Waterloo - Live at Wembley",
        "Waterloo (2011 Remaster)",
    ]


def test_versions_combined_with_gaps_and_diversity(release: OpenRelease) -> None:
    seeds = [Seed(artist="ABBA", title="Waterloo")]
    query = Query(seeds, 4, mode=Mode.COOCCURRENCE, min_artist_gap=1)
    assert names(release, query) == [*ONCE[:3], ("", "Waterloo")]
    varied = names(release, Query(seeds, 6, mode=Mode.DENSE, diversity=0.5))
    assert len({identify_recording(*name) or name for name in varied}) == 6


def test_songs_without_an_artist_have_no_versions() -> None:
    assert identify_recording("", "heroes") is None
    assert identify_recording("queen", "") is None
    assert identify_recording("queen", "heroes - live") == ("queen", "heroes")
