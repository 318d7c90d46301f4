"""Build a shard of Qdrant Edge in a separate process: `python -m catalog.embedded.build`.

While the engine builds an index, it holds the interpreter lock, so no other thread of the same
process could answer calls or show progress.

The arguments are the Parquet file of the songs, the number of dimensions, the index types of the
extra payload fields as JSON, and the folder for the new shard. The process writes JSON objects to
standard output, one per line: objects with the keys `stage`, `done` and `total` for progress, then
one object with either the keys `points` and `indexed` or the key `error`.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow.parquet as pq
import qdrant_edge as edge

from catalog import schema
from catalog.draft import require_sound_vectors
from catalog.embedded.release import engine_errors
from catalog.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

BATCH = 2_000  # songs per call to the engine

SONGS_PER_SEGMENT = 400_000

WEIGHTS_PER_SEGMENT = 8_000_000
"""Co-occurrence weights per segment. A weight takes about 60 bytes until the segment is indexed."""

BYTES_PER_SEED = 4

MAX_SEGMENTS = 1_000
"""Number of segments above which the engine merges them. It is never reached, because merging would
need the memory that small segments save."""

_INDEXES: Mapping[schema.Kind, Callable[..., Any]] = {
    "keyword": edge.KeywordIndexParams,
    "integer": partial(edge.IntegerIndexParams, lookup=True, range=True),
    "float": edge.FloatIndexParams,
    "text": partial(
        edge.TextIndexParams,
        tokenizer=edge.TokenizerType.Prefix,
        min_token_len=1,
        max_token_len=schema.MAX_PREFIX_LENGTH,
        lowercase=True,
    ),
}


def build(
    songs_path: Path, dimensions: int, payload: dict[str, schema.Kind], shard_path: Path
) -> None:
    """Create a shard at `shard_path`, add the songs, index it and close it.

    `songs_path` is a Parquet file as described in `catalog.draft.Draft`; `payload` has the index
    type of each extra payload field. Raises `EngineError`.
    """
    songs = pq.ParquetFile(songs_path)
    total = songs.metadata.num_rows
    _report(stage="upload", done=0, total=total)  # fails if the parent process has already ended
    shard_path.mkdir()
    with engine_errors("build"):
        shard = edge.EdgeShard.create(str(shard_path), _config(dimensions))
        for field, kind in {**schema.PAYLOAD_INDEXES, **payload}.items():
            index = _INDEXES[kind](enable_hnsw=False)  # see ACORN_MAX_SELECTIVITY
            shard.update(edge.UpdateOperation.create_field_index(field, index))
        done = songs_in_segment = weights_in_segment = 0
        for batch in songs.iter_batches(BATCH):
            require_sound_vectors(batch, dimensions)
            if songs_in_segment > SONGS_PER_SEGMENT or weights_in_segment > WEIGHTS_PER_SEGMENT:
                shard = _index(shard, shard_path)
                songs_in_segment = weights_in_segment = 0
            shard.update(edge.UpdateOperation.upsert_points(_points(batch)))
            done += batch.num_rows
            songs_in_segment += batch.num_rows
            weights_in_segment += batch["seeds"].nbytes // BYTES_PER_SEED
            _report(stage="upload", done=done, total=total)
        _report(stage="index", done=0, total=total)
        # Loading the shard merges the journals into the files, which do not change afterwards.
        shard = _index(shard, shard_path)
        info = shard.info()
        shard.close()
    _report(points=info.points_count, indexed=info.indexed_vectors_count)


def _index(shard: Any, shard_path: Path) -> Any:
    """Index a shard, close it to free the memory of indexing, and return it loaded again."""
    shard.optimize()
    shard.flush()
    shard.close()
    _trim_memory()
    return edge.EdgeShard.load(str(shard_path))


def _trim_memory() -> None:
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl has no `malloc_trim`
            ctypes.CDLL(None).malloc_trim(0)


def _config(dimensions: int) -> Any:
    return edge.EdgeConfig(
        vectors={
            schema.DENSE: edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine)
        },
        sparse_vectors={schema.SPARSE: edge.EdgeSparseVectorParams(memory=edge.Memory.Cached)},
        hnsw_config=edge.HnswIndexConfig(
            m=schema.HNSW_M,
            ef_construct=schema.HNSW_EF_CONSTRUCT,
            full_scan_threshold=schema.FULL_SCAN_THRESHOLD_KB,
        ),
        optimizers=edge.EdgeOptimizersConfig(
            default_segment_number=MAX_SEGMENTS, indexing_threshold=schema.INDEXING_THRESHOLD_KB
        ),
        payload_memory=edge.Memory.Cached,
        max_search_threads=1,
        wal_enabled=False,
    )


def _points(batch: pa.RecordBatch) -> list[Any]:
    points = []
    for row in batch.to_pylist():
        vectors: dict[str, Any] = {}
        if row["vector"] is not None:
            vectors[schema.DENSE] = row["vector"]
        if row["seeds"]:
            vectors[schema.SPARSE] = edge.SparseVector(row["seeds"], row["strengths"])
        points.append(edge.Point(UUID(row["song_id"]), vectors, schema.build_payload(row)))
    return points


def _report(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _die_with_parent() -> None:
    # On Linux, make the kernel kill this process if its parent is killed.
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main(songs_path: str, dimensions: str, payload: str, shard_path: str) -> int:
    """Build a shard and report the result or the error. Returns the exit code."""
    _die_with_parent()
    try:
        build(Path(songs_path), int(dimensions), json.loads(payload), Path(shard_path))
    except (EngineError, OSError) as error:
        _report(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
