"""Builds one shard of Qdrant Edge, as a process: `python -m catalog.embedded.build`.

The engine holds the interpreter while it builds an index, and must never do so in a process that
serves or shows progress. The parent gives the songs' Parquet file, the size of their vectors,
the kinds of the extra payload fields as a JSON object and the folder of the new shard, and reads
JSON lines from standard output: {"stage", "done", "total"} while work
goes on, then {"points", "indexed"} or {"error"}.
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

BATCH = 2_000
STRENGTHS_PER_SEGMENT = 8_000_000
"""About 60 bytes each in memory until their segment is indexed, and next to nothing after that."""

BYTES_PER_SEED = 4
SONGS_PER_SEGMENT = 400_000
MOST_SEGMENTS = 1_000
"""Beyond these the engine would merge segments, which takes the memory that they are to spare."""

_INDEXES: Mapping[schema.Kind, Callable[..., Any]] = {
    "keyword": edge.KeywordIndexParams,
    "integer": partial(edge.IntegerIndexParams, lookup=True, range=True),
    "float": edge.FloatIndexParams,
    "text": partial(
        edge.TextIndexParams,
        tokenizer=edge.TokenizerType.Prefix,
        min_token_len=1,
        max_token_len=schema.LONGEST_PREFIX,
        lowercase=True,
    ),
}


def build(
    songs_path: Path, dimensions: int, payload: dict[str, schema.Kind], shard_path: Path
) -> None:
    """Fill a new shard at `shard_path` from the songs' Parquet file, index it and close it.

    The file has a row a song: the payload's fields; `vector`, a list of `dimensions` floats or
    null; and `seeds` and `strengths`, the ordinals and values of its sparse vector, or null.
    Raises `EngineError`.
    """
    songs = pq.ParquetFile(songs_path)
    total = songs.metadata.num_rows
    _say(stage="upload", done=0, total=total)  # fails, and ends this, if the parent is gone already
    shard_path.mkdir()
    with engine_errors("build"):
        shard = edge.EdgeShard.create(str(shard_path), _config(dimensions))
        for field, kind in {**schema.PAYLOAD_INDEXES, **payload}.items():
            index = _INDEXES[kind](enable_hnsw=field not in schema.UNLINKED)
            shard.update(edge.UpdateOperation.create_field_index(field, index))
        done = songs_here = strengths_here = 0
        for batch in songs.iter_batches(BATCH):
            require_sound_vectors(batch, dimensions)
            if songs_here > SONGS_PER_SEGMENT or strengths_here > STRENGTHS_PER_SEGMENT:
                shard = _indexed(shard, shard_path)
                songs_here = strengths_here = 0
            shard.update(edge.UpdateOperation.upsert_points(_points(batch)))
            done += batch.num_rows
            songs_here += batch.num_rows
            strengths_here += batch["seeds"].nbytes // BYTES_PER_SEED
            _say(stage="upload", done=done, total=total)
        _say(stage="index", done=0, total=total)
        # The load folds journals into the files, which from then on never change.
        shard = _indexed(shard, shard_path)
        info = shard.info()
        shard.close()
    _say(points=info.points_count, indexed=info.indexed_vectors_count)


def _indexed(shard: Any, shard_path: Path) -> Any:
    """The same shard, indexed and opened anew.

    What it needed for indexing it keeps in memory; opened anew, it reads its files.
    """
    shard.optimize()
    shard.flush()
    shard.close()
    _trim_memory()
    return edge.EdgeShard.load(str(shard_path))


def _trim_memory() -> None:
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl has no such call
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
            default_segment_number=MOST_SEGMENTS, indexing_threshold=schema.INDEXING_THRESHOLD_KB
        ),
        payload_memory=edge.Memory.Cached,
        max_search_threads=1,
        wal_enabled=False,
    )


def _points(batch: pa.RecordBatch) -> list[Any]:
    points = []
    for row in batch.to_pylist():
        dense, seeds, strengths = (row.pop(name) for name in ("vector", "seeds", "strengths"))
        vectors: dict[str, Any] = {}
        if dense is not None:
            vectors[schema.DENSE] = dense
        if seeds:
            vectors[schema.SPARSE] = edge.SparseVector(seeds, strengths)
        payload = {name: value for name, value in row.items() if value is not None}
        points.append(edge.Point(UUID(row["song_id"]), vectors, payload))
    return points


def _say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _die_with_parent() -> None:
    # Linux only, and best effort: a parent that is killed must not leave a builder behind.
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main(songs_path: str, dimensions: str, payload: str, shard_path: str) -> int:
    """Build, and say so or say what failed."""
    _die_with_parent()
    try:
        build(Path(songs_path), int(dimensions), json.loads(payload), Path(shard_path))
    except (EngineError, OSError) as error:
        _say(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
