"""Synthetic releases of any size, for benchmarks. Their recommendations are random.

Vectors form clusters, as trained vectors do, and each seed predicts `PREDICTED` songs.
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

    from numpy.typing import NDArray

    from catalog.console.progress import Reporter
    from catalog.manifest import Manifest
    from catalog.server.options import Storage
    from catalog.store import ReleaseStore

DIMENSIONS = 64
PREDICTED = 100  # number of songs that each seed predicts
SONGS_PER_ARTIST = 10
YEARS = (1950, 2025)  # range of the payload field `year`; the end is exclusive
CHUNK = 100_000  # number of songs that are written at a time


def make_song_id(rank: int) -> UUID:
    """Return the id of the synthetic song with this popularity rank; ranks start at 0."""
    return song_id(*_make_names(rank))


def publish_synthetic(
    store: ReleaseStore, songs: int, folder: Path, reporter: Reporter, storage: Storage = "memory"
) -> Manifest:
    """Publish a synthetic release with `songs` songs, unless the current release is identical.

    `storage` is the location of vectors on a Qdrant server. The songs are first written to a file
    in `folder`.
    """
    content = f"{songs:08x}{PREDICTED:04x}{DIMENSIONS:04x}"
    if storage != "memory":
        content += storage.encode().hex()
    current = store.current()
    if current and (manifest := store.manifest(current)).origin.content_fingerprint == content:
        return manifest
    path = folder / "songs.parquet"
    with reporter.task("generate") as task:
        _write_songs(songs, path)
        task.result(f"{songs:,} songs of {DIMENSIONS} numbers, {PREDICTED} predicted by each")
    counts = Counts(songs, songs, songs, -(-songs // SONGS_PER_ARTIST), songs, 20 * songs)
    parameters = {"recency": 0.5, "dense_recency": 0.5, "dense_weight": 0.1}
    origin = Origin("0" * 64, "0" * 64, content, "bench", parameters, ["invented"], False)
    return store.publish(Draft(path, DIMENSIONS, counts, origin, {"year": "integer"}), reporter)


def _make_names(rank: int) -> tuple[str, str]:
    return f"Artist {rank // SONGS_PER_ARTIST}", f"Song {rank}"


def _write_songs(songs: int, path: Path) -> None:
    random = np.random.default_rng(songs)
    bounds, seeds = _draw_predicting_seeds(songs, random)
    centres = random.normal(size=(max(8, songs // 500), DIMENSIONS)).astype(np.float32)
    writer = None
    for start in range(0, songs, CHUNK):
        ranks = range(start, min(songs, start + CHUNK))
        names = [_make_names(rank) for rank in ranks]
        vectors = centres[random.integers(0, len(centres), len(ranks))]
        vectors = vectors + random.normal(scale=0.7, size=vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        own_seeds = seeds[bounds[start] : bounds[ranks.stop]]
        weights = random.exponential(size=len(own_seeds)).astype(np.float32) + np.float32(1e-3)
        offsets = pa.array((bounds[start : ranks.stop + 1] - bounds[start]).astype(np.int32))
        table = pa.table(
            {
                "song_id": [str(song_id(*name)) for name in names],
                "artist": [artist for artist, _ in names],
                "title": [title for _, title in names],
                "artist_key": [[artist.lower()] for artist, _ in names],
                "ordinal": pa.array(ranks, pa.uint32()),
                "playlists": pa.array([songs - rank for rank in ranks], pa.int32()),
                "search_text": [f"{artist} {title}".lower() for artist, title in names],
                "year": pa.array(random.integers(*YEARS, len(ranks)), pa.int64()),
                "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), DIMENSIONS),
                "seeds": pa.ListArray.from_arrays(offsets, own_seeds),
                "strengths": pa.ListArray.from_arrays(offsets, weights),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def _draw_predicting_seeds(
    songs: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Draw the seeds that predict each song: the indexes of the sparse vectors.

    Returns `offsets`, shape (songs + 1,), and `seeds`. The seeds of song i are
    `seeds[offsets[i]:offsets[i + 1]]`, in ascending order.
    """
    targets = random.integers(0, songs, songs * PREDICTED, dtype=np.uint32)
    order = np.argsort(targets, kind="stable")
    targets, seeds = targets[order], (order // PREDICTED).astype(np.uint32)
    is_new = np.append(True, (np.diff(targets) != 0) | (np.diff(seeds) != 0))
    targets, seeds = targets[is_new], seeds[is_new]
    return np.searchsorted(targets, np.arange(songs + 1)), seeds
