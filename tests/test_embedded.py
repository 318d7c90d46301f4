"""The embedded home: what is published is found again, and nothing half-made is ever served."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import edge_build, embedded
from catalog.embedded import Draft, EmbeddedHome
from catalog.errors import (
    BusyError,
    CorruptReleaseError,
    EngineError,
    NoReleaseError,
    ReleaseError,
    StorageError,
)
from catalog.manifest import Counts, Manifest, Origin, sum_files
from catalog.release import Filter, Song, Vector
from catalog.reporting import Silent
from catalog.songs import normalise, search_text, song_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from catalog.edge import EdgeRelease

T = TypeVar("T")

# The best known songs, whose names are searched for below; the rest are "Artist 7", "Song 123".
NAMED = [
    ("Beyoncé", "Déjà Vu"),
    ("AC/DC", "T.N.T."),
    ("Guns N' Roses", "Sweet Child O' Mine"),
    ("宇多田ヒカル", "First Love"),
    ("فيروز", "نسم علينا الهوى"),
    ("Julie Andrews", "Supercalifragilisticexpialidocious"),
    ("Beyoncé", "Halo"),
    ("Sigur Rós", "Sæglópur"),
    ("The The", "This Is the Day"),
]
ORIGIN = Origin("d" * 64, "e" * 64, "0123456789abcdef", "0.1.0", {"epochs": 1}, ["a.csv"], False)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def unit(vectors: Vector) -> Vector:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Vector = (vectors / lengths).astype(np.float32)
    return result


def drafted(
    folder: Path,
    vectors: Vector,
    *,
    of_songs: Sequence[Song] | None = None,
    column: pa.Array | None = None,
) -> Draft:
    """A draft of these vectors, shape (n, dimensions), or of any other `column` of vectors."""
    chosen = invented(len(vectors)) if of_songs is None else of_songs
    dimensions = vectors.shape[1]
    if column is None:
        column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), dimensions)
    table = pa.table(
        {
            "song_id": [str(song.song_id) for song in chosen],
            "artist": [song.artist for song in chosen],
            "title": [song.title for song in chosen],
            "artist_key": [song.artist_key for song in chosen],
            "ordinal": pa.array([song.ordinal for song in chosen], pa.uint32()),
            "playlists": pa.array([song.playlists for song in chosen], pa.int32()),
            "search_text": [search_text(song.artist_key, normalise(song.title)) for song in chosen],
            "vector": column,
        }
    )
    path = folder / "songs.parquet"
    pq.write_table(table, path)
    artists = len({song.artist_key for song in chosen})
    return Draft(path, dimensions, Counts(len(chosen), artists, 10, 100), ORIGIN)


def invented(count: int) -> list[Song]:
    """Songs in the order of their popularity; song i is in `count - i` playlists."""
    names = NAMED + [(f"Artist {i % 20}", f"Song {i}") for i in range(len(NAMED), count)]
    return [
        Song(song_id(artist, title), artist, title, normalise(artist), i, count - i)
        for i, (artist, title) in enumerate(names[:count])
    ]


def vectors_of(count: int, dimensions: int, seed: int = 0) -> Vector:
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32))


class Notes(Silent):
    """Remembers what was said, and calls `on_progress` with each step of the work."""

    def __init__(self, on_progress: Callable[[float, float | None], None] | None = None) -> None:
        self.results: list[str] = []
        self.steps: list[tuple[float, float | None]] = []
        self._on_progress = on_progress

    @contextmanager
    def task(self, title: str) -> Iterator[Notes]:
        yield self

    def advance(self, done: float, total: float | None = None) -> None:
        self.steps.append((done, total))
        if self._on_progress:
            self._on_progress(done, total)

    def result(self, text: str) -> None:
        self.results.append(text)


@dataclass(frozen=True)
class Library:
    """A release of known songs and vectors: what is in it, and where it is."""

    songs: list[Song]
    vectors: Vector
    draft: Draft
    home: EmbeddedHome
    release: EdgeRelease
    notes: Notes
    seconds: float

    @property
    def shard(self) -> Path:
        return shard_of(self.home)

    def exact(self, query: Vector, limit: int, where: Callable[[Song], bool]) -> list[Song]:
        """The songs that an exact search finds."""
        allowed = [song for song in self.songs if where(song)]
        scores = self.vectors[[song.ordinal for song in allowed]] @ query
        return [allowed[i] for i in np.argsort(-scores, kind="stable")[:limit]]


def library(folder: Path, count: int, dimensions: int) -> Iterator[Library]:
    vectors = vectors_of(count, dimensions)
    draft = drafted(folder, vectors)
    home = EmbeddedHome(folder / "home")
    notes = Notes()
    start = time.perf_counter()
    home.publish(draft, notes)
    seconds = time.perf_counter() - start
    release = home.open()
    yield Library(invented(count), vectors, draft, home, release, notes, seconds)
    release.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """300 songs: few enough to be searched exactly."""
    yield from library(tmp_path_factory.mktemp("small"), 300, 8)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """6,000 songs of 64 numbers: enough to be searched by the graph."""
    yield from library(tmp_path_factory.mktemp("large"), 6_000, 64)


def shard_of(home: EmbeddedHome) -> Path:
    return home.path / "releases" / (home.current() or "") / "shard"


def linked(source: str, target: str) -> str:
    """Copy a file; a large one by a hard link, as nobody writes into it."""
    if Path(source).stat().st_size > 1 << 16:
        os.link(source, target)
        return target
    return shutil.copy2(source, target)


@pytest.fixture
def home(small: Library, tmp_path: Path) -> EmbeddedHome:
    """A copy of the small home, to be damaged."""
    shutil.copytree(small.home.path, tmp_path / "home", copy_function=linked)
    return EmbeddedHome(tmp_path / "home")


@pytest.fixture
def quick(small: Library, monkeypatch: pytest.MonkeyPatch) -> Draft:
    """Publishing builds nothing from now on, but copies the small release."""
    template = small.release.manifest

    def build(
        draft: Draft, folder: Path, release: str, created: datetime, reporter: object
    ) -> Manifest:
        shutil.copytree(small.shard, folder / "shard", copy_function=linked)
        manifest = replace(template, release=release, created=created.isoformat())
        (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    monkeypatch.setattr(embedded, "_build", build)
    return small.draft


def assert_as_it_was(home: EmbeddedHome, small: Library) -> None:
    """The copy's one release is current, readable and alone."""
    assert home.current() == small.release.manifest.release
    assert [path.name for path in (home.path / "releases").iterdir()] == home.releases()
    assert home.releases() == [home.current()]
    release = home.open()
    assert run(release.popular(1))[0].song == small.songs[0]
    release.close()


# What is published is found again.


def test_songs_and_vectors_are_those_that_were_given(small: Library) -> None:
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


def test_the_manifest_says_what_was_published(small: Library) -> None:
    manifest = small.release.manifest
    assert manifest == small.home.manifest(manifest.release)
    assert manifest.release == small.home.current()
    assert small.home.releases() == [manifest.release]
    assert (manifest.dimensions, manifest.counts) == (8, small.draft.counts)
    assert manifest.origin == ORIGIN
    assert manifest.release.endswith("-01234567")
    assert datetime.fromisoformat(manifest.created).utcoffset() is not None
    assert manifest.files == sum_files(small.shard)
    assert set(manifest.canaries) <= {str(song.song_id) for song in small.songs}
    assert len(set(manifest.canaries)) == embedded.CANARIES


def test_progress_is_reported(small: Library) -> None:
    assert (300, 300) in small.notes.steps
    (result,) = small.notes.results
    assert result.startswith("300 songs, ")
    assert result.endswith(f"in release {small.home.current()}")


artist_keys = st.frozensets(st.sampled_from([song.artist_key for song in invented(40)]), max_size=4)


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
    hits = run(small.release.nearest(query, limit, where))
    assert [hit.song for hit in hits] == small.exact(query, limit, allowed)
    expected = small.vectors[[hit.song.ordinal for hit in hits]] @ query
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
    popular = [point.song for point in run(small.release.popular(limit, where))]
    assert popular == [song for song in small.songs if allowed(song)][:limit]


def test_popular_songs_come_with_their_vectors(small: Library) -> None:
    points = run(small.release.popular(5))
    assert [point.song.ordinal for point in points] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([point.vector for point in points], small.vectors[:5], atol=1e-6)


def test_popular_songs_end_where_the_catalog_ends(small: Library) -> None:
    assert [point.song for point in run(small.release.popular(1_000))] == small.songs


def test_the_large_release_is_indexed(large: Library) -> None:
    assert large.notes.results[0].startswith("6,000 songs, 6,000 of them indexed")


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
    ids=["all", "popular half", "not two artists", "one artist"],
)
def test_the_index_finds_what_exact_search_finds(
    large: Library, where: Filter, allowed: Callable[[Song], bool]
) -> None:
    queries = vectors_of(100, 64, seed=1)
    found = 0
    for query in queries:
        hits = run(large.release.nearest(query, 10, where))
        assert all(allowed(hit.song) for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        wanted = {song.song_id for song in large.exact(query, 10, allowed)}
        found += len(wanted & {hit.song.song_id for hit in hits})
    assert found / (10 * len(queries)) >= 0.95


def test_every_song_finds_itself(large: Library) -> None:
    for song in large.songs[::50]:
        best = run(large.release.nearest(large.vectors[song.ordinal], 1))[0]
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
def test_search_by_words_and_their_beginnings(
    small: Library, text: str, ordinals: list[int]
) -> None:
    assert [song.ordinal for song in run(small.release.search(text, 10))] == ordinals


def test_search_gives_the_most_popular_first(small: Library) -> None:
    matches = [song for song in small.songs if song.title.startswith("Song 2")]
    where = Filter(exclude_artists=frozenset(["artist 2"]))  # "2" begins a word of these names too
    among = [song for song in matches if song.artist_key != "artist 2"]
    assert run(small.release.search("song 2", 12, where)) == among[:12]
    few = [song for song in matches if song.title.startswith("Song 29")]
    assert run(small.release.search("song 29", 99)) == few
    assert run(small.release.search("song 2", 0)) == []


def test_a_query_of_another_size_is_an_engine_error(small: Library) -> None:
    with pytest.raises(EngineError, match=r"^Qdrant Edge failed to search: .*expected dim: 8"):
        run(small.release.nearest(vectors_of(1, 9)[0], 5))


def test_a_query_of_nan_finds_nothing(small: Library) -> None:
    assert run(small.release.nearest(np.full(8, np.nan, np.float32), 5)) == []


def test_a_closed_release_answers_no_more(small: Library) -> None:
    release = small.home.open()
    release.close()
    with pytest.raises(EngineError, match=r"^Qdrant Edge failed to search: "):
        run(release.nearest(small.vectors[0], 5))


def test_reading_does_not_change_a_byte(small: Library) -> None:
    sums = sum_files(small.home.path)
    release = small.home.open()
    run(release.nearest(small.vectors[0], 50, Filter(min_playlists=10)))
    run(release.search("song", 50))
    run(release.popular(50))
    run(release.points([song.song_id for song in small.songs]))
    release.close()
    assert sum_files(small.home.path) == sums


READ = """
import asyncio, sys
from pathlib import Path
from catalog.embedded import EmbeddedHome
release = EmbeddedHome(Path(sys.argv[1])).open()
for point in asyncio.run(release.popular(20)):
    hits = asyncio.run(release.nearest(point.vector, 5))
    print(*[hit.song.song_id for hit in hits], flush=True)
    sys.stdin.readline()
"""


def test_two_processes_read_one_release_at_once(small: Library) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(small.home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        second = small.home.open()  # and a second time in this process
        for point in run(small.release.popular(20)):
            theirs = other.stdout.readline().split()
            for release in (small.release, second):
                ours = run(release.nearest(point.vector, 5))
                assert [str(hit.song.song_id) for hit in ours] == theirs
            other.stdin.write("\n")
            other.stdin.flush()
        second.close()
    assert other.returncode == 0


# Which release is current, and which are kept.


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
def test_a_home_without_a_release(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "home"
    if kind == "empty":
        path.mkdir()
    elif kind == "a file":
        path.write_text("x")
    home = EmbeddedHome(path)
    assert home.current() is None
    assert home.releases() == []
    with pytest.raises(NoReleaseError, match=r"no release in .*home yet: .*ingest run.*--home"):
        home.open()
    assert path.exists() == (kind != "missing")


def test_a_home_where_nothing_can_be_written(small: Library, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        EmbeddedHome(tmp_path / "home").publish(small.draft, Silent())


def test_two_old_releases_are_kept(tmp_path: Path, quick: Draft) -> None:
    home = EmbeddedHome(tmp_path / "home")
    published: list[str] = []
    for _ in range(5):
        published.append(home.publish(quick, Silent()).release)
        assert home.current() == published[-1]
        assert home.releases() == published[-3:]
    for release in published[-3:]:
        opened = home.open(release)
        assert opened.manifest.release == release
        opened.close()
    assert (home.path / "current").read_text() == published[-1] + "\n"
    assert sorted(path.name for path in home.path.iterdir()) == [".lock", "current", "releases"]
    assert len(list((home.path / "releases").iterdir())) == 3


def test_a_release_that_is_open_outlives_its_files(tmp_path: Path, quick: Draft) -> None:
    home = EmbeddedHome(tmp_path / "home")
    first = home.publish(quick, Silent()).release
    opened = home.open()
    for _ in range(3):
        home.publish(quick, Silent())
    assert first not in home.releases()
    assert [point.song.ordinal for point in run(opened.popular(3))] == [0, 1, 2]
    opened.close()


def test_the_current_release_is_never_pruned(tmp_path: Path, quick: Draft) -> None:
    home = EmbeddedHome(tmp_path / "home")
    first = home.publish(quick, Silent()).release
    for _ in range(2):
        home.publish(quick, Silent())
    (home.path / "current").write_text(first)  # as after a rollback
    assert home.publish(quick, Silent()).release == home.current()
    assert len(home.releases()) == 3
    assert first not in home.releases()


# Damage is noticed, and said in one line.


def one_line(home: EmbeddedHome, error: type[ReleaseError] = CorruptReleaseError) -> str:
    with pytest.raises(error) as caught:
        home.open()
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    return message


def file_in(home: EmbeddedHome, name: str) -> Path:
    """The largest file of this name in the shard, as its own copy."""
    path = max(shard_of(home).rglob(name), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["matrix.dat", "segment.json", "vocab.dat"])
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (truncate, "is not as it was published"),
        (flip, "is not as it was published"),
        (Path.unlink, "is missing"),
    ],
)
def test_a_damaged_file(
    home: EmbeddedHome, name: str, damage: Callable[[Path], None], word: str
) -> None:
    damage(file_in(home, name))
    message = one_line(home)
    assert message.startswith(f"release {home.current()} is damaged: ")
    assert f"{name} {word}" in message
    assert "ingest run --force" in message


def test_a_segment_without_its_version_file(home: EmbeddedHome) -> None:
    file_in(home, "version.info").unlink()  # the engine would skip the segment silently
    assert "version.info is missing" in one_line(home)


def test_a_file_too_many(home: EmbeddedHome) -> None:
    (shard_of(home) / "segments" / "stray").write_text("x")
    assert "stray does not belong to the release" in one_line(home)


def test_what_another_reader_writes_for_itself_is_no_damage(home: EmbeddedHome) -> None:
    # The engine makes such a file whenever it opens or closes a release; a kill leaves it there.
    for folder in (shard_of(home), next((shard_of(home) / "segments").iterdir())):
        (folder / ".atomicwriteWdyLib").mkdir()
        (folder / ".atomicwriteWdyLib" / "tmpfile.tmp").write_text("{")
    home.open().close()


def test_the_engines_folder_is_gone(home: EmbeddedHome) -> None:
    shutil.rmtree(shard_of(home))
    assert "shard is missing" in one_line(home)


def test_a_file_that_cannot_be_read(home: EmbeddedHome, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise OSError(errno.EIO, "Input/output error", "matrix.dat")

    monkeypatch.setattr(hashlib, "file_digest", broken)
    assert "cannot be read (matrix.dat: Input/output error)" in one_line(home)


def edit_manifest(home: EmbeddedHome, **changes: Any) -> None:
    path = shard_of(home).parent / "manifest.json"
    manifest = replace(home.manifest(home.current() or ""), **changes)
    path.write_text(manifest.to_json(), encoding="utf-8")


def test_more_songs_than_there_are(home: EmbeddedHome, small: Library) -> None:
    edit_manifest(home, counts=replace(small.draft.counts, songs=301))
    assert "the engine holds 300 songs of 301" in one_line(home)


@pytest.mark.parametrize(
    ("canary", "word"), [(str(UUID(int=7)), "cannot be found"), ("0-0", "no song ids")]
)
def test_a_canary_that_is_not_there(home: EmbeddedHome, canary: str, word: str) -> None:
    edit_manifest(home, canaries=[canary])
    assert word in one_line(home)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\0" * 500, b'{"format": 2}'])
def test_a_broken_manifest(home: EmbeddedHome, content: bytes | None) -> None:
    path = shard_of(home).parent / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert str(path) in one_line(home)
    with pytest.raises(CorruptReleaseError):
        home.manifest(home.current() or "")


def test_a_pointer_to_a_missing_release(home: EmbeddedHome) -> None:
    release = home.current() or ""
    shutil.rmtree(home.path / "releases" / release)
    assert one_line(home).startswith(f"release {release} cannot be read (")


@pytest.mark.parametrize("content", [b"", b"\n", b" \n"])
def test_an_empty_pointer(home: EmbeddedHome, content: bytes) -> None:
    (home.path / "current").write_bytes(content)
    assert "no release in" in one_line(home, NoReleaseError)


@pytest.mark.parametrize("content", [b"\0" * 29, b"\xff\xfe", b"../../etc", b"20261123T2040"])
def test_a_pointer_to_nowhere(home: EmbeddedHome, content: bytes) -> None:
    (home.path / "current").write_bytes(content)
    message = one_line(home)
    assert f"{home.path / 'current'} names no release" in message
    assert "ingest run --force" in message


def test_a_damaged_home_takes_a_new_release(home: EmbeddedHome, quick: Draft) -> None:
    flip(file_in(home, "matrix.dat"))
    release = home.publish(quick, Silent()).release
    assert home.current() == release
    home.open().close()
    (home.path / "current").write_bytes(b"\0" * 20)
    release = home.publish(quick, Silent()).release
    assert home.current() == release
    home.open().close()


# Publishing that fails leaves the current release as it was.


def builder(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let this shell script be the process that builds."""
    path = folder / "builder"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("exit 3", "ended early: exit code 3"),
        ("echo bad luck >&2; echo worse luck >&2; exit 1", "ended early: worse luck"),
        ("kill -9 $$", "ended early: exit code -9"),
        ("exit 0", "holds 0 songs of 300"),
        ("""echo '{"points": 299, "indexed": 0}'""", "holds 299 songs of 300"),
        ("""echo '{"error": "Qdrant Edge failed to build: a panic"}'""", "a panic"),
        ("echo Traceback; sleep 60", "says 'Traceback"),
        ("yes | head -c 1000000 >&2; echo flooded >&2; exit 1", "ended early: flooded"),
    ],
)
def test_a_builder_that_dies(
    home: EmbeddedHome,
    small: Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    word: str,
) -> None:
    builder(tmp_path, monkeypatch, script)
    with pytest.raises(EngineError) as caught:
        home.publish(small.draft, Silent())
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_as_it_was(home, small)


def test_a_builder_that_finds_the_disk_full(
    home: EmbeddedHome, small: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """echo '{"error": "failed to build: No space left on device (os error 28)"}'"""
    builder(tmp_path, monkeypatch, script)
    with pytest.raises(StorageError, match="the disk is full: free some room"):
        home.publish(small.draft, Silent())
    assert_as_it_was(home, small)


def test_a_builder_that_is_killed(
    home: EmbeddedHome, small: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []

    class Remembered(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Remembered)
    with pytest.raises(EngineError, match="ended early: exit code -9"):
        home.publish(small.draft, Notes(lambda done, total: started[0].kill()))
    assert_as_it_was(home, small)


def test_an_interrupt_ends_the_builder_too(
    home: EmbeddedHome, small: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    script = f"""echo $$ > {pid_file}; echo '{{"done": 1, "total": 300}}'; exec sleep 60"""
    builder(tmp_path, monkeypatch, script)

    def interrupt(done: float, total: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        home.publish(small.draft, Notes(interrupt))
    assert not Path(f"/proc/{int(pid_file.read_text())}").exists()
    assert_as_it_was(home, small)


def test_the_working_folder_is_not_asked_for_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("catalog.py", "json.py", "pyarrow.py"):
        (tmp_path / name).write_text("raise SystemExit('this is not ours')")
    draft = drafted(tmp_path, vectors_of(3, 4))
    monkeypatch.chdir(tmp_path)
    home = EmbeddedHome(Path("home"))
    home.publish(draft, Silent())
    home.open().close()


def spoiled(kind: str) -> tuple[Vector, pa.Array | None]:
    """Vectors of 12 songs, of which the ninth is wrong."""
    vectors = vectors_of(12, 4)
    lists = vectors.tolist()
    if kind == "nan":
        vectors[8, 2] = np.nan
    elif kind == "infinite":
        vectors[8, 2] = np.inf
    elif kind == "zero":
        vectors[8] = 0
    elif kind == "long":
        vectors[8] *= 1.01
    elif kind == "null":
        return vectors, pa.array([*lists[:8], None, *lists[9:]], pa.list_(pa.float32(), 4))
    elif kind == "null number":
        lists[8][2] = None
        return vectors, pa.array(lists, pa.list_(pa.float32(), 4))
    elif kind == "shorter":
        return vectors, pa.array([*lists[:8], lists[8][:3], *lists[9:]], pa.list_(pa.float32()))
    elif kind == "longer":
        return vectors, pa.array([*lists[:8], [*lists[8], 0.0], *lists[9:]])
    return vectors, None


@pytest.mark.parametrize(
    "kind", ["nan", "infinite", "zero", "long", "null", "null number", "shorter", "longer"]
)
def test_a_wrong_vector_is_never_built(tmp_path: Path, kind: str) -> None:
    vectors, column = spoiled(kind)
    draft = drafted(tmp_path, vectors, column=column)
    ninth = invented(12)[8].song_id
    with pytest.raises(EngineError, match=f"the vector of song {ninth} is not 4 numbers of unit"):
        edge_build.build(draft.songs_path, 4, tmp_path / "shard")


def test_a_list_of_any_kind_is_built(tmp_path: Path) -> None:
    vectors = vectors_of(12, 4)
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 4)):
        draft = drafted(tmp_path, vectors, column=pa.array(vectors.tolist(), kind))
        edge_build.build(draft.songs_path, 4, tmp_path / f"shard of {kind}")


def test_a_wrong_vector_is_never_published(
    home: EmbeddedHome, small: Library, tmp_path: Path
) -> None:
    vectors = vectors_of(300, 8)
    vectors[-1, 0] = np.nan
    with pytest.raises(EngineError, match=f"the vector of song {small.songs[-1].song_id}"):
        home.publish(drafted(tmp_path, vectors), Silent())
    assert_as_it_was(home, small)


def test_another_number_of_dimensions_is_never_published(
    home: EmbeddedHome, small: Library
) -> None:
    with pytest.raises(EngineError, match="is not 9 numbers of unit length"):
        home.publish(replace(small.draft, dimensions=9), Silent())
    assert_as_it_was(home, small)


def test_a_song_given_twice_is_never_published(
    home: EmbeddedHome, small: Library, tmp_path: Path
) -> None:
    draft = drafted(tmp_path, small.vectors, of_songs=[*small.songs[:-1], small.songs[0]])
    with pytest.raises(EngineError, match="holds 299 songs of 300"):
        home.publish(draft, Silent())
    assert_as_it_was(home, small)


# Publishing that is killed, and publishing twice at once.

PUBLISH = """
import pickle, sys
from pathlib import Path
from catalog.embedded import EmbeddedHome
from catalog.reporting import Silent
home, draft = pickle.loads(bytes.fromhex(sys.argv[1]))
print("go", flush=True)
print(EmbeddedHome(home).publish(draft, Silent()).release, flush=True)
"""


@contextmanager
def publisher(home: EmbeddedHome, draft: Draft) -> Iterator[subprocess.Popen[str]]:
    """Another process that is about to publish; it is gone at the end."""
    argument = pickle.dumps((home.path, draft)).hex()
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISH, argument], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "go\n"
            yield child
        finally:
            child.kill()


def builders(home: EmbeddedHome) -> list[str]:
    """The command lines of processes that build for this home."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it ended meanwhile
            continue
    return [one for one in commands if "catalog.edge_build" in one and str(home.path) in one]


def test_killed_at_any_moment(home: EmbeddedHome, small: Library) -> None:
    chance = random.Random(20261123)
    for part in range(4):
        old = home.current()
        with publisher(home, small.draft) as child:
            time.sleep(small.seconds * 0.2 * (part + chance.random()))
            child.kill()
        release = home.open()
        # A kill that comes too late finds a whole new release; any other leaves the old one.
        assert release.manifest.release in {old, home.releases()[-1]}
        assert run(release.popular(1))[0].song == small.songs[0]
        release.close()
    new = home.publish(small.draft, Silent()).release
    assert home.current() == new
    home.open().close()
    assert [path.name for path in (home.path / "releases").iterdir() if path.name[0] == "."] == []
    deadline = time.monotonic() + 20
    while builders(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert builders(home) == []


FOLLOW = '''
import subprocess, sys
code = """
import time
from catalog.edge_build import _die_with_parent
_die_with_parent()
print("ready", flush=True)
time.sleep(120)
"""
child = subprocess.Popen([sys.executable, "-c", code])
print(child.pid, flush=True)
child.wait()
'''


def is_alive(process: Path) -> bool:
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_builder_dies_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOW], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        assert parent.stdout.readline() == "ready\n"
        assert is_alive(child)
        parent.kill()
    deadline = time.monotonic() + 30
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def killed(action: Callable[[], object]) -> None:
    """Do this in a process of its own, which must end by SIGKILL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child calls no engine
        child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("place", "name", "is_published"),
    [
        (Path, "rename", False),
        (embedded, "sync_folder", False),
        (embedded, "write_atomically", False),
        (Path, "replace", False),
        (EmbeddedHome, "_prune", True),
    ],
    ids=["built", "in place", "before the pointer", "at the pointer", "before pruning"],
)
def test_killed_at_each_step(
    home: EmbeddedHome,
    small: Library,
    quick: Draft,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    is_published: bool,
) -> None:
    old = home.current()
    with monkeypatch.context() as patch:
        patch.setattr(place, name, die)
        killed(lambda: home.publish(quick, Silent()))
    assert (home.current() != old) == is_published
    home.open().close()
    new = home.publish(quick, Silent()).release
    assert home.current() == new
    home.open().close()
    left = [path.name for path in home.path.rglob(".*") if path.name != ".lock"]
    assert left == []


def test_killed_while_pruning(
    tmp_path: Path, quick: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = EmbeddedHome(tmp_path / "home")
    published = [home.publish(quick, Silent()).release for _ in range(3)]

    def half(folder: Path, **_: object) -> None:
        next(path for path in folder.rglob("*") if path.is_file()).unlink()
        die()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        killed(lambda: home.publish(quick, Silent()))
    kept = home.releases()
    assert kept[:2] == published[1:]
    for release in kept:  # none of them is the one that is half gone
        home.open(release).close()
    home.publish(quick, Silent())
    assert len(list((home.path / "releases").iterdir())) == 3


def test_two_publishers_at_once(home: EmbeddedHome, small: Library) -> None:
    old = home.current()
    with publisher(home, small.draft) as other:
        deadline = time.monotonic() + 60
        while not list((home.path / "releases").glob(".*.partial")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with pytest.raises(BusyError) as caught:
            home.publish(small.draft, Silent())
        assert f"is in use: publishing a release (process {other.pid})" in str(caught.value)
        assert home.current() == old
        assert other.stdout is not None
        release = other.stdout.readline().strip()
        assert other.wait() == 0
    assert home.current() == release
    assert home.releases() == [old, release]
    home.open().close()
