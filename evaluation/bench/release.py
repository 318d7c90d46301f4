"""Invented releases of any size, to measure speed with: what they recommend means nothing.

Vectors lie in clusters, as learned ones do; each seed predicts `PREDICTED` songs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.draft import Draft
from catalog.manifest import Counts, Origin
from catalog.song import song_id

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from catalog.manifest import Manifest
    from catalog.progress import Reporter
    from catalog.server.options import Storage
    from catalog.store import ReleaseStore

DIMENSIONS = 64
PREDICTED = 100
SONGS_PER_ARTIST = 10
YEARS = (1950, 2025)
CHUNK = 100_000


def song_of(place: int) -> UUID:
    """The id of the song at this place by popularity."""
    return song_id(*_names(place))


def published(
    home: ReleaseStore, songs: int, folder: Path, reporter: Reporter, storage: Storage = "memory"
) -> Manifest:
    """The current release of `home` if it is an invented one of so many songs, or a new one.

    `storage` is how the home lays it out.
    """
    content = f"{songs:08x}{PREDICTED:04x}{DIMENSIONS:04x}"
    if storage != "memory":
        content += storage.encode().hex()
    current = home.current()
    if current and home.manifest(current).origin.content_fingerprint == content:
        return home.manifest(current)
    path = folder / "songs.parquet"
    with reporter.task("invent") as task:
        _write_songs(songs, path)
        task.result(f"{songs:,} songs of {DIMENSIONS} numbers, {PREDICTED} predicted by each")
    counts = Counts(songs, songs, songs, -(-songs // SONGS_PER_ARTIST), songs, 20 * songs)
    parameters = {"query_decay": 0.9, "dense_weight": 0.1}
    origin = Origin("0" * 64, "0" * 64, content, "bench", parameters, ["invented"], False)
    return home.publish(Draft(path, DIMENSIONS, counts, origin, {"year": "integer"}), reporter)


def _names(place: int) -> tuple[str, str]:
    return f"Artist {place // SONGS_PER_ARTIST}", f"Song {place}"


def _write_songs(songs: int, path: Path) -> None:
    random = np.random.default_rng(songs)
    targets = random.integers(0, songs, songs * PREDICTED, dtype=np.uint32)
    order = np.argsort(targets, kind="stable")
    targets, seeds = targets[order], (order // PREDICTED).astype(np.uint32)
    # A seed that came upon a song twice predicts it once.
    first = np.append(True, (np.diff(targets) != 0) | (np.diff(seeds) != 0))
    targets, seeds = targets[first], seeds[first]
    bounds = np.searchsorted(targets, np.arange(songs + 1))
    centres = random.normal(size=(max(8, songs // 500), DIMENSIONS)).astype(np.float32)
    writer = None
    for start in range(0, songs, CHUNK):
        end = min(songs, start + CHUNK)
        places = range(start, end)
        names = [_names(place) for place in places]
        vectors = centres[random.integers(0, len(centres), len(places))]
        vectors = vectors + random.normal(scale=0.7, size=vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        own = seeds[bounds[start] : bounds[end]]
        strengths = random.exponential(size=len(own)).astype(np.float32) + np.float32(1e-3)
        offsets = pa.array((bounds[start : end + 1] - bounds[start]).astype(np.int32))
        table = pa.table(
            {
                "song_id": [str(song_id(*name)) for name in names],
                "artist": [artist for artist, _ in names],
                "title": [title for _, title in names],
                "artist_key": [artist.lower() for artist, _ in names],
                "ordinal": pa.array(places, pa.uint32()),
                "playlists": pa.array([songs - place for place in places], pa.int32()),
                "search_text": [f"{artist} {title}".lower() for artist, title in names],
                "year": pa.array(random.integers(*YEARS, len(places)), pa.int64()),
                "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIMENSIONS),
                "seeds": pa.ListArray.from_arrays(offsets, own),
                "strengths": pa.ListArray.from_arrays(offsets, strengths),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
