"""Reads and searches of the embedded store return the published songs and vectors."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import draft
from catalog.errors import EngineError
from catalog.manifest import sum_files
from catalog.model import Filter, Search, Song
from tests.support.embedded_releases import ORIGIN, Library, make_songs, nearest, run, vectors_of

if TYPE_CHECKING:
    from collections.abc import Callable


def test_points_are_as_published(small: Library) -> None:
    ids = [song.song_id for song in small.songs]
    points = run(small.release.points(ids))
    assert [points[one].song for one in ids] == small.songs
    vectors = np.stack([points[one].vector for one in ids])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, small.vectors, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_unknown_ids_are_left_out(small: Library) -> None:
    known = small.songs[7].song_id
    assert set(run(small.release.points([UUID(int=1), known, UUID(int=2)]))) == {known}
    assert run(small.release.points([])) == {}
    assert set(run(small.release.points([known, known]))) == {known}


def test_the_manifest_describes_the_release(small: Library) -> None:
    manifest = small.release.manifest
    assert manifest == small.store.manifest(manifest.release)
    assert manifest.release == small.store.current()
    assert small.store.releases() == [manifest.release]
    assert (manifest.dimensions, manifest.counts) == (8, small.draft.counts)
    assert manifest.origin == ORIGIN
    assert manifest.release.endswith("-01234567")
    assert datetime.fromisoformat(manifest.created).utcoffset() is not None
    assert manifest.files == sum_files(small.shard)
    assert set(manifest.canaries) <= {str(song.song_id) for song in small.songs}
    assert len(set(manifest.canaries)) == draft.CANARIES


def test_progress_is_reported(small: Library) -> None:
    assert (300, 300) in small.notes.steps
    (result,) = small.notes.results
    assert result.startswith("300 songs, ")
    assert result.endswith(f"in release {small.store.current()}")


artist_keys = st.frozensets(
    st.sampled_from([song.artist_key for song in make_songs(40)]), max_size=4
)


@settings(deadline=None)  # a busy machine can be slow
@given(
    include=artist_keys,
    exclude=artist_keys,
    without=st.frozensets(st.integers(0, 299), max_size=40),
    least=st.integers(0, 310),
    most=st.integers(0, 310),
    limit=st.integers(0, 320),
    seed=st.integers(0, 99),
)
def test_filters_against_exact_search(
    small: Library,
    include: frozenset[str],
    exclude: frozenset[str],
    without: frozenset[int],
    least: int,
    most: int,
    limit: int,
    seed: int,
) -> None:
    banned = frozenset(small.songs[i].song_id for i in without)
    where = Filter(include, exclude, banned, least, most)

    def allowed(song: Song) -> bool:
        return (
            (not include or song.artist_key in include)
            and song.artist_key not in exclude
            and song.song_id not in banned
            and song.playlists >= least
            and (not most or song.playlists <= most)
        )

    query = vectors_of(1, 8, seed)[0]
    hits = nearest(small.release, query, limit, where)
    assert [hit.song for hit in hits] == small.exact(query, limit, allowed)
    expected = small.vectors[[hit.song.ordinal for hit in hits]] @ query
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
    popular = [point.song for point in run(small.release.popular(limit, where))]
    assert popular == [song for song in small.songs if allowed(song)][:limit]


def test_popular_songs_come_with_their_vectors(small: Library) -> None:
    points = run(small.release.popular(5))
    assert [point.song.ordinal for point in points] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([point.vector for point in points], small.vectors[:5], atol=1e-6)


def test_popular_returns_at_most_all_songs(small: Library) -> None:
    assert [point.song for point in run(small.release.popular(1_000))] == small.songs


def test_the_large_release_is_indexed(large: Library) -> None:
    assert large.notes.results[0].startswith("6,000 songs, 12,000 vectors indexed")


@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        (Filter(), lambda song: True),
        (Filter(min_playlists=3_001), lambda song: song.playlists > 3_000),
        (
            Filter(exclude_artists=frozenset(["artist 3", "artist 4"])),
            lambda song: song.artist_key not in {"artist 3", "artist 4"},
        ),
        (
            Filter(include_artists=frozenset(["artist 5"])),
            lambda song: song.artist_key == "artist 5",
        ),
    ],
    ids=["all", "popular half", "without two artists", "one artist"],
)
def test_the_index_returns_the_same_songs_as_exact_search(
    large: Library, where: Filter, allowed: Callable[[Song], bool]
) -> None:
    queries = vectors_of(100, 64, seed=1)
    found = 0
    for query in queries:
        hits = nearest(large.release, query, 10, where)
        assert all(allowed(hit.song) for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        wanted = {song.song_id for song in large.exact(query, 10, allowed)}
        found += len(wanted & {hit.song.song_id for hit in hits})
    assert found / (10 * len(queries)) >= 0.95


def test_every_song_is_its_own_nearest_neighbour(large: Library) -> None:
    for song in large.songs[::50]:
        best = nearest(large.release, large.vectors[song.ordinal], 1)[0]
        assert best.song == song
        assert best.score == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "ordinals"),
    [
        ("Beyoncé", [0, 6]),
        ("BEYONCE", [0, 6]),
        ("beyonce\u0301", [0, 6]),
        ("bey", [0, 6]),
        ("b", [0, 6]),
        ("eyonce", []),
        ("deja", [0]),
        ("déjà  VU beyoncé", [0]),
        ("vu bey", [0]),
        ("beyonce halo vu", []),
        ("ac/dc", [1]),
        ("AC DC", [1]),
        ("t.n.t.", [1]),
        ("guns n' ro", [2]),
        ("sweet o'", [2]),
        ("宇多田ヒカル", [3]),
        ("宇多", [3]),
        ("فيروز", [4]),
        ("supercalifragilistic", [5]),
        ("Supercalifragilisticexpialidocious", [5]),
        ("sigur saegl", []),
        ("sigur sæglo", [7]),
        ("the", [8]),
        ("day the", [8]),
        ("song 290", [290]),
        ("ARTIST 9 SONG 1 b", []),
        ("nothing like it", []),
        ("", []),
        (" \t", []),
        ("!?", []),
    ],
)
def test_search_by_words_and_prefixes(small: Library, text: str, ordinals: list[int]) -> None:
    assert [song.ordinal for song in run(small.release.search(text, 10))] == ordinals


def test_search_returns_the_most_popular_songs_first(small: Library) -> None:
    matches = [song for song in small.songs if song.title.startswith("Song 2")]
    # The songs of "Artist 2" also match the prefix 2, because of the name of the artist.
    where = Filter(exclude_artists=frozenset(["artist 2"]))
    among = [song for song in matches if song.artist_key != "artist 2"]
    assert run(small.release.search("song 2", 12, where)) == among[:12]
    few = [song for song in matches if song.title.startswith("Song 29")]
    assert run(small.release.search("song 29", 99)) == few
    assert run(small.release.search("song 2", 0)) == []


def test_a_query_of_another_size_is_an_engine_error(small: Library) -> None:
    with pytest.raises(EngineError, match=r"^Qdrant Edge failed to search: .*expected dim: 8"):
        nearest(small.release, vectors_of(1, 9)[0], 5)


def test_a_query_of_nan_returns_nothing(small: Library) -> None:
    assert nearest(small.release, np.full(8, np.nan, np.float32), 5) == []


def test_a_closed_release_raises(small: Library) -> None:
    release = small.store.open()
    release.close()
    with pytest.raises(EngineError, match=r"^Qdrant Edge failed to search: "):
        nearest(release, small.vectors[0], 5)


def test_reading_does_not_change_files(small: Library) -> None:
    sums = sum_files(small.store.path)
    release = small.store.open()
    nearest(release, small.vectors[0], 50, Filter(min_playlists=10))
    run(release.search("song", 50))
    run(release.popular(50))
    run(release.points([song.song_id for song in small.songs]))
    release.close()
    assert sum_files(small.store.path) == sums


READ = """
import asyncio, sys
from pathlib import Path
from catalog.embedded.store import EmbeddedStore
from catalog.model import Search
release = EmbeddedStore(Path(sys.argv[1])).open()
for point in asyncio.run(release.popular(20)):
    (hits,) = asyncio.run(release.find([Search(point.vector, limit=5)]))
    print(*[hit.song.song_id for hit in hits], flush=True)
    sys.stdin.readline()
"""


def test_two_processes_read_one_release_at_once(small: Library) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(small.store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        second = small.store.open()  # the same release, opened again in this process
        for point in run(small.release.popular(20)):
            theirs = other.stdout.readline().split()
            for release in (small.release, second):
                ours = nearest(release, point.vector, 5)
                assert [str(hit.song.song_id) for hit in ours] == theirs
            other.stdin.write("\n")
            other.stdin.flush()
        second.close()
    assert other.returncode == 0


def test_exact_search_and_vectors_of_hits_on_request(large: Library) -> None:
    query = vectors_of(1, large.vectors.shape[1], 3)[0]
    plain, exact = run(
        large.release.find([Search(query), Search(query, exact=True, with_vectors=True)])
    )
    assert all(hit.vector is None for hit in plain)
    best = np.argsort(-(large.vectors @ query))[:10]
    assert [hit.song.ordinal for hit in exact] == best.tolist()
    for hit in exact:
        np.testing.assert_allclose(hit.vector, large.vectors[hit.song.ordinal], atol=1e-6)


def test_a_search_with_neither_vector_nor_seeds_returns_nothing(small: Library) -> None:
    assert run(small.release.find([Search()])) == [[]]
