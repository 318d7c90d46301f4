"""What is to be published: the songs of a release in a Parquet file, and what to say about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import EngineError, InputError, NoReleaseError
from catalog.files import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from catalog.manifest import Counts, Manifest, Origin, StoredReranker
    from catalog.progress import Reporter
    from catalog.schema import Kind
    from catalog.store import ReleaseStore

CANARIES = 8

LONGEST_DEVIATION = 1e-3
"""How far from 1 the length of a unit vector may be."""

_TYPES: Mapping[Kind, pa.DataType] = {
    "keyword": pa.string(),
    "text": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
}


@dataclass(frozen=True)
class Draft:
    """What is to be published.

    `songs_path` is a Parquet file with a row a song: the fields of the payload (see
    `catalog.schema`); `vector`, a list of `dimensions` floats of unit length, null where there is
    none; `seeds` and `strengths`, the ordinals and values of its sparse vector, likewise.
    `payload` says of what kind each extra field is. `copy_of` is the release that this one is to
    be the same as, in another home. `ranker` and `validation` go into the manifest as they are.
    """

    songs_path: Path
    dimensions: int
    counts: Counts
    origin: Origin
    payload: dict[str, Kind] = field(default_factory=dict)
    copy_of: Manifest | None = None
    ranker: StoredReranker | None = None
    validation: dict[str, float] = field(default_factory=dict)


def draft_of(manifest: Manifest, songs_path: Path) -> Draft:
    """The draft that publishes a release's songs once more."""
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


def release_named(draft: Draft, created: datetime) -> str:
    """The id of the release that a draft becomes at this time; ids sort by time."""
    if draft.copy_of:
        return draft.copy_of.release
    return f"{created:%Y%m%dT%H%M%S%f}"[:-3] + f"-{draft.origin.content_fingerprint[:8]}"


def created_of(draft: Draft, created: datetime) -> str:
    """When the release was made, in ISO 8601."""
    return draft.copy_of.created if draft.copy_of else created.isoformat(timespec="seconds")


def canaries_of(songs_path: Path) -> list[str]:
    """The ids of up to `CANARIES` songs with a vector, spread over the file."""
    songs = pq.read_table(songs_path, columns=["song_id"], filters=pc.field("vector").is_valid())
    ids = songs["song_id"]
    spread = np.linspace(0, len(ids) - 1, min(CANARIES, len(ids)), dtype=int)
    return [ids[int(place)].as_py() for place in spread]


def require_sound_vectors(batch: pa.RecordBatch, dimensions: int) -> None:
    """Raise `EngineError` for vectors that an engine refuses, or takes and never finds again.

    A dense one of another size, or not of unit length; a sparse one that names a seed twice.
    """
    _require_unit_vectors(batch, dimensions)
    lists = batch["seeds"]
    if pa.types.is_null(lists.type):
        return
    keys = np.asarray(pc.list_parent_indices(lists)).astype(np.uint64) << np.uint64(32)
    keys |= np.asarray(pc.list_flatten(lists)).astype(np.uint64)
    if not (keys[1:] > keys[:-1]).all():
        keys.sort()
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            song = batch["song_id"][int(keys[twice[0]] >> np.uint64(32))]
            raise EngineError(f"a seed predicts song {song} twice")


def _require_unit_vectors(batch: pa.RecordBatch, dimensions: int) -> None:
    # The engine takes NaN and zero vectors without a word, and nobody ever finds those songs.
    given = batch.filter(pc.is_valid(batch["vector"]))
    vectors = given["vector"]
    right = np.array(pc.equal(pc.list_value_length(vectors), dimensions).fill_null(False))
    if right.all():
        numbers = np.asarray(pc.list_flatten(vectors), dtype=np.float64)
        lengths = np.linalg.norm(numbers.reshape(-1, dimensions), axis=1)
        right = np.abs(lengths - 1.0) < LONGEST_DEVIATION
    if not right.all():
        song = given["song_id"][int(np.flatnonzero(~right)[0])]
        raise EngineError(f"the vector of song {song} is not {dimensions} numbers of unit length")


def require_removable(home: ReleaseStore, release: str) -> None:
    """Raise `NoReleaseError` or `InputError` unless the release is there, and is not current."""
    if release not in home.releases():
        raise NoReleaseError(
            f"no release {release} in {home.place}: `nextsong releases list` shows what there is"
        )
    if release == home.current():
        raise InputError(
            f"release {release} is the current one: make another one current first, "
            f"with `nextsong releases rollback`"
        )


def write_songs(
    batches: Iterable[list[dict[str, Any]]], manifest: Manifest, path: Path, reporter: Reporter
) -> None:
    """Write songs, batch by batch, to a Parquet file as `Draft` wants it."""
    # A server keeps the manifest's fields in no order, and the same songs must make the same file.
    extras = [pa.field(name, _TYPES[kind]) for name, kind in sorted(manifest.payload.items())]
    fields = [pa.field(name, kind) for name, kind in _SONG_TYPES.items()]
    schema = pa.schema([*fields, *extras])
    done = 0
    with reporter.task("read") as task, storage_errors(path):
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                done += len(batch)
                task.advance(done, manifest.counts.songs)
        task.result(f"{done:,} songs of release {manifest.release}")


_SONG_TYPES = {
    "song_id": pa.string(),
    "artist": pa.string(),
    "title": pa.string(),
    "artist_key": pa.string(),
    "ordinal": pa.uint32(),
    "playlists": pa.int32(),
    "search_text": pa.string(),
    "vector": pa.list_(pa.float32()),
    "seeds": pa.list_(pa.uint32()),
    "strengths": pa.list_(pa.float32()),
}
