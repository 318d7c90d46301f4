"""Releases of synthetic songs and vectors in an embedded store."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.console.progress import SilentReporter
from catalog.draft import Draft
from catalog.embedded.store import EmbeddedStore
from catalog.manifest import Counts, Origin
from catalog.model import ANY, Filter, Hit, Search, Song, Vector
from catalog.song import normalise, search_text, song_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from catalog.embedded.release import EmbeddedRelease
    from catalog.store import OpenRelease

T = TypeVar("T")

# The names of the most popular songs, which tests search for. All other names are of the form
# "Artist 7" and "Song 123".
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


def nearest(release: OpenRelease, vector: Vector, limit: int, where: Filter = ANY) -> list[Hit]:
    (hits,) = run(release.find([Search(vector, limit=limit, where=where)]))
    return hits


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
    """Write a draft whose vectors are `vectors`, shape (n, dimensions), or `column` if given."""
    chosen = make_songs(len(vectors)) if of_songs is None else of_songs
    dimensions = vectors.shape[1]
    if column is None:
        column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), dimensions)
    table = pa.table(
        {
            "song_id": [str(song.song_id) for song in chosen],
            "artist": [song.artist for song in chosen],
            "title": [song.title for song in chosen],
            "artist_key": [list(song.artist_keys) for song in chosen],
            "ordinal": pa.array([song.ordinal for song in chosen], pa.uint32()),
            "playlists": pa.array([song.playlists for song in chosen], pa.int32()),
            "search_text": [
                search_text(song.artist_keys, normalise(song.title)) for song in chosen
            ],
            "vector": column,
            "seeds": pa.nulls(len(chosen), pa.list_(pa.uint32())),
            "strengths": pa.nulls(len(chosen), pa.list_(pa.float32())),
        }
    )
    path = folder / "songs.parquet"
    pq.write_table(table, path)
    artists = len({song.artist_key for song in chosen})
    return Draft(path, dimensions, Counts(len(chosen), len(chosen), 0, artists, 10, 100), ORIGIN)


def make_songs(count: int) -> list[Song]:
    """Return `count` songs, most popular first. Song i is in `count - i` playlists."""
    names = NAMED + [(f"Artist {i % 20}", f"Song {i}") for i in range(len(NAMED), count)]
    return [
        Song(song_id(artist, title), artist, title, (normalise(artist),), i, count - i)
        for i, (artist, title) in enumerate(names[:count])
    ]


def vectors_of(count: int, dimensions: int, seed: int = 0) -> Vector:
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32))


class Notes(SilentReporter):
    """A reporter that records results and progress, and calls `on_progress` at each step."""

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
    """A release of synthetic songs and vectors, together with its content and store."""

    songs: list[Song]
    vectors: Vector
    draft: Draft
    store: EmbeddedStore
    release: EmbeddedRelease
    notes: Notes
    seconds: float

    @property
    def shard(self) -> Path:
        return shard_of(self.store)

    def exact(self, query: Vector, limit: int, where: Callable[[Song], bool]) -> list[Song]:
        """Return the `limit` nearest songs that satisfy `where`, by exact search."""
        allowed = [song for song in self.songs if where(song)]
        scores = self.vectors[[song.ordinal for song in allowed]] @ query
        return [allowed[i] for i in np.argsort(-scores, kind="stable")[:limit]]


def library(folder: Path, count: int, dimensions: int) -> Iterator[Library]:
    vectors = vectors_of(count, dimensions)
    draft = drafted(folder, vectors)
    store = EmbeddedStore(folder / "home")
    notes = Notes()
    start = time.perf_counter()
    store.publish(draft, notes)
    seconds = time.perf_counter() - start
    release = store.open()
    yield Library(make_songs(count), vectors, draft, store, release, notes, seconds)
    release.close()


def shard_of(store: EmbeddedStore) -> Path:
    return store.path / "releases" / (store.current() or "") / "shard"
