"""A draft: the songs and metadata from which a store builds and publishes a release."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import EngineError
from catalog.files import storage_errors
from catalog.manifest import FORMAT, SPELLING_FORMAT, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from catalog.console.progress import Reporter
    from catalog.manifest import Counts, FileSum, Origin, StoredReranker
    from catalog.schema import Kind

CANARIES = 8  # maximum number of songs that are tested when a release is opened

LENGTH_TOLERANCE = 1e-3
"""Maximum difference of the length of a unit vector from 1."""

_TYPES: Mapping[Kind, pa.DataType] = {
    "keyword": pa.string(),
    "text": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
}


@dataclass(frozen=True)
class Draft:
    """A release to be published.

    - `songs_path`: a Parquet file with one row per song. Its columns are the payload fields (see
      `catalog.schema`; `artist_key` is a list, but a text in format 2), the dense vector and the
      sparse vector. The dense vector is `vector`: a list of `dimensions` floats with unit length,
      or null. The sparse vector consists of `seeds` (seed ordinals as indices) and `strengths`
      (co-occurrence weights as values), or of nulls.
    - `payload`: index type of each extra payload field.
    - `copy_of`: manifest of the original, if the draft is a copy of a release in another store. The
      copy has the same format as the original.
    - `ranker`, `validation`: the re-ranker and the validation metrics (see `Manifest`).
    """

    songs_path: Path
    dimensions: int
    counts: Counts
    origin: Origin
    payload: dict[str, Kind] = field(default_factory=dict)
    copy_of: Manifest | None = None
    ranker: StoredReranker | None = None
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def format(self) -> int:
        """The format of the release to be published."""
        return self.copy_of.format if self.copy_of else FORMAT

    @property
    def has_spelling(self) -> bool:
        """Whether the songs of the release have spelling vectors (see `catalog.spelling`)."""
        return self.format >= SPELLING_FORMAT


def build_draft(manifest: Manifest, songs_path: Path) -> Draft:
    """Return a draft that publishes the songs of an existing release again.

    `songs_path` is the Parquet file of the songs.
    """
    return Draft(
        songs_path,
        manifest.dimensions,
        manifest.counts,
        manifest.origin,
        manifest.payload,
        copy_of=manifest,
        ranker=manifest.ranker,
        validation=manifest.validation,
    )


def build_release_id(draft: Draft, created: datetime) -> str:
    """Return the id of a release that is built from the draft at `created`, in UTC.

    Ids sort by time. A copy of a release has the id of the original.
    """
    if draft.copy_of:
        return draft.copy_of.release
    return f"{created:%Y%m%dT%H%M%S%f}"[:-3] + f"-{draft.origin.content_fingerprint[:8]}"


def build_manifest(
    draft: Draft, release: str, created: datetime, files: dict[str, FileSum] | None = None
) -> Manifest:
    """Return the manifest of a release that is built from the draft at `created`.

    The HNSW search width and the recall are not set, because there is no index yet.
    """
    return Manifest(
        format=draft.format,
        release=release,
        created=draft.copy_of.created if draft.copy_of else created.isoformat(timespec="seconds"),
        dimensions=draft.dimensions,
        counts=draft.counts,
        origin=draft.origin,
        files=files or {},
        canaries=choose_canaries(draft.songs_path),
        payload=draft.payload,
        ranker=draft.ranker,
        validation=draft.validation,
    )


def choose_canaries(songs_path: Path) -> list[str]:
    """Return the ids of up to `CANARIES` songs with a dense vector, evenly spread over the file.

    The songs are tested whenever the release is opened (see `Manifest.canaries`).
    """
    songs = pq.read_table(songs_path, columns=["song_id"], filters=pc.field("vector").is_valid())
    ids = songs["song_id"]
    rows = np.linspace(0, len(ids) - 1, min(CANARIES, len(ids)), dtype=int)
    return [ids[int(row)].as_py() for row in rows]


def require_sound_vectors(batch: pa.RecordBatch, dimensions: int) -> None:
    """Raise `EngineError` if Qdrant would refuse a vector, or store it but never return its song.

    This applies to dense vectors with a wrong size or a length other than 1, and to sparse vectors
    in which an index occurs twice. `batch` holds rows of `Draft.songs_path`.
    """
    _require_unit_vectors(batch, dimensions)
    lists = batch["seeds"]
    if pa.types.is_null(lists.type):
        return
    # A key is the row (upper 32 bits) and the seed (lower 32 bits) of a weight, so equal keys are
    # duplicates.
    keys = np.asarray(pc.list_parent_indices(lists)).astype(np.uint64) << np.uint64(32)
    keys |= np.asarray(pc.list_flatten(lists)).astype(np.uint64)
    if not (keys[1:] > keys[:-1]).all():
        keys.sort()
        duplicates = np.flatnonzero(keys[1:] == keys[:-1])
        if len(duplicates):
            song = batch["song_id"][int(keys[duplicates[0]] >> np.uint64(32))]
            raise EngineError(f"a seed predicts song {song} twice")


def _require_unit_vectors(batch: pa.RecordBatch, dimensions: int) -> None:
    # Qdrant accepts NaN and zero vectors without an error, but no search returns those songs.
    songs = batch.filter(pc.is_valid(batch["vector"]))
    vectors = songs["vector"]
    is_sound = np.array(pc.equal(pc.list_value_length(vectors), dimensions).fill_null(False))
    if is_sound.all():
        numbers = np.asarray(pc.list_flatten(vectors), dtype=np.float64)
        lengths = np.linalg.norm(numbers.reshape(-1, dimensions), axis=1)
        is_sound = np.abs(lengths - 1.0) < LENGTH_TOLERANCE
    if not is_sound.all():
        song = songs["song_id"][int(np.flatnonzero(~is_sound)[0])]
        raise EngineError(f"the vector of song {song} is not {dimensions} numbers of unit length")


def write_songs(
    batches: Iterable[list[dict[str, Any]]], manifest: Manifest, path: Path, reporter: Reporter
) -> None:
    """Write batches of songs to the Parquet file `path`.

    `Draft.songs_path` describes the columns.
    """
    # Sort the extra fields, because a Qdrant server does not preserve their order in the manifest.
    extras = [pa.field(name, _TYPES[kind]) for name, kind in sorted(manifest.payload.items())]
    fields = [pa.field(name, kind) for name, kind in _song_types(manifest.format).items()]
    schema = pa.schema([*fields, *extras])
    done = 0
    with reporter.task("read") as task, storage_errors(path):
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                done += len(batch)
                task.advance(done, manifest.counts.songs)
        task.result(f"{done:,} songs of release {manifest.release}")


def _song_types(manifest_format: int) -> dict[str, pa.DataType]:
    return {
        "song_id": pa.string(),
        "artist": pa.string(),
        "title": pa.string(),
        "artist_key": pa.string() if manifest_format == 2 else pa.list_(pa.string()),
        "ordinal": pa.uint32(),
        "playlists": pa.int32(),
        "search_text": pa.string(),
        "vector": pa.list_(pa.float32()),
        "seeds": pa.list_(pa.uint32()),
        "strengths": pa.list_(pa.float32()),
    }
