"""Build a shard of Qdrant Edge in a separate process: `python -m catalog.embedded.build`.

While Qdrant Edge, the "engine", builds an index, it holds the global interpreter lock (GIL), so no
other thread of the same process could answer calls or show progress.

The arguments are the Parquet file of the songs, a JSON object with the fields of `Layout`, and the
folder for the new shard. The process writes JSON objects to standard output, one per line. Objects
with the keys `stage`, `done` and `total` (songs) report progress. The last object has the keys
`points` and `indexed` (numbers of songs and of indexed vectors), or the key `error` (a message).

A large release is built in several parts. Each part is built by another process of this module,
whose arguments also include the number of the part and the number of all parts, and becomes one
segment of the shard.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow.compute as pc
import pyarrow.parquet as pq
import qdrant_edge as edge

from catalog import schema
from catalog.draft import require_sound_vectors
from catalog.embedded.release import engine_errors
from catalog.errors import EngineError
from catalog.spelling import build_spelling_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

BATCH = 2_000  # songs per call to the engine

SONGS_PER_SEGMENT = 400_000
"""Approximate maximum number of songs in a segment."""

WEIGHTS_PER_SEGMENT = 12_000_000
"""Approximate maximum number of co-occurrence weights in a segment.

The maximum limits memory use: a weight takes about 60 bytes until the segment is indexed."""

MAX_BUILDERS = 4
"""Maximum number of processes that build segments at the same time."""

MAX_SEGMENTS = 1_000
"""Number of segments above which the engine merges segments. No release has so many segments."""

SEGMENTS = "segments"
"""Name of the folder in a shard that contains a folder for each segment."""

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


@dataclass(frozen=True)
class Layout:
    """The vectors and payload indexes of a shard.

    - `dimensions`: number of dimensions of the dense vectors.
    - `payload`: index type of each extra payload field.
    - `has_spelling`: whether songs have spelling vectors.
    """

    dimensions: int
    payload: Mapping[str, schema.Kind]
    has_spelling: bool


def build(songs_path: Path, layout: Layout, shard_path: Path) -> None:
    """Create a shard in the new folder `shard_path`, with the songs and all indexes.

    `songs_path` is a Parquet file as described in `catalog.draft.Draft`. Progress and result are
    written to standard output. Raises `EngineError`.
    """
    songs = pq.ParquetFile(songs_path)
    builders = min(os.cpu_count() or 1, MAX_BUILDERS)
    parts = count_parts(songs.metadata, builders)
    if parts == 1:
        build_part(songs_path, layout, shard_path)
    else:
        _require_distinct_songs(songs_path)
        arguments = [str(songs_path), json.dumps(asdict(layout))]
        folders = [shard_path.with_name(f"{shard_path.name}.{part}") for part in range(parts)]
        commands = [[*arguments, str(folder)] for folder in folders]
        _run_builders(commands, builders, songs.metadata.num_rows)
        _merge(folders, shard_path)
    with engine_errors("build"):
        # Loading the shard once applies its journals of changes, so that later readers change no
        # file.
        shard = edge.EdgeShard.load(str(shard_path))
        info = shard.info()
        shard.close()
    _report(points=info.points_count, indexed=info.indexed_vectors_count)


def count_parts(metadata: pq.FileMetaData, builders: int) -> int:
    """Return the number of segments for a file of songs, given the metadata of the Parquet file.

    `builders` is the number of segments that are built at the same time. If more segments are
    needed, the number is rounded up to a multiple of `builders`, so that all builders work until
    the end.
    """
    columns = [
        metadata.row_group(group).column(index)
        for group in range(metadata.num_row_groups)
        for index in range(metadata.num_columns)
    ]
    weights: int = sum(
        column.num_values for column in columns if column.path_in_schema.startswith("seeds.")
    )
    parts: int = max(
        1,
        math.ceil(metadata.num_rows / SONGS_PER_SEGMENT),
        math.ceil(weights / WEIGHTS_PER_SEGMENT),
    )
    return parts if parts <= builders else math.ceil(parts / builders) * builders


def _require_distinct_songs(songs_path: Path) -> None:
    """Raise `EngineError` if a song occurs twice.

    The engine would detect this only if both rows were in the same segment.
    """
    song_ids = pq.read_table(songs_path, columns=["song_id"])["song_id"]
    distinct = pc.count_distinct(song_ids).as_py()
    if distinct != len(song_ids):
        raise EngineError(
            f"the draft holds {distinct} songs of {len(song_ids)}: a song is repeated"
        )


def _run_builders(commands: Sequence[Sequence[str]], builders: int, songs: int) -> None:
    """Run a process for each part, `builders` at a time, and report their total progress.

    `commands` contains the first three arguments of each process. `songs` is the number of songs in
    all parts. Raises `EngineError` if a part cannot be built.
    """
    done = [0] * len(commands)

    def run(part: int) -> None:
        arguments = [*commands[part], str(part), str(len(commands))]
        with subprocess.Popen(  # noqa: S603 -- our own module, no shell
            [sys.executable, "-P", "-m", "catalog.embedded.build", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                message = json.loads(line)
                if "error" in message:
                    raise EngineError(message["error"])
                done[part] = max(done[part], message["done"])
                _report(stage=message["stage"], done=sum(done), total=songs)
        if child.returncode:
            raise EngineError(
                f"a process that builds a part of the release ended early: exit code "
                f"{child.returncode}"
            )

    # After an error, a ThreadPool does not wait for its threads, unlike a ThreadPoolExecutor. The
    # processes that still run end together with this process (see `_die_with_parent`).
    with ThreadPool(builders) as pool:
        for _ in pool.imap_unordered(run, range(len(commands))):
            pass


def _merge(folders: Sequence[Path], shard_path: Path) -> None:
    """Move the segments of all shards into the first shard, and the first shard to `shard_path`."""
    first, *others = folders
    for other in others:
        for segment in (other / SEGMENTS).iterdir():
            segment.rename(first / SEGMENTS / segment.name)
        shutil.rmtree(other)
    first.rename(shard_path)


def build_part(
    songs_path: Path, layout: Layout, shard_path: Path, part: int = 0, parts: int = 1
) -> None:
    """Create a shard with one of `parts` equal parts of the songs, in one segment.

    `part` is the number of the part, counted from 0. For the other arguments, see `build`. Raises
    `EngineError`.
    """
    songs = pq.ParquetFile(songs_path)
    total, done = songs.metadata.num_rows, 0
    _report(stage="upload", done=0, total=total)  # fails if the parent process has already ended
    shard_path.mkdir()
    with engine_errors("build"):
        shard = edge.EdgeShard.create(str(shard_path), _config(layout))
        # The file is sorted by popularity, and popular songs have longer sparse vectors. Each part
        # takes every `parts`-th batch, so that all parts take equally long.
        for batch in islice(songs.iter_batches(BATCH), part, None, parts):
            require_sound_vectors(batch, layout.dimensions)
            shard.update(edge.UpdateOperation.upsert_points(_points(batch, layout.has_spelling)))
            done += batch.num_rows
            _report(stage="upload", done=done, total=total)
        _report(stage="index", done=0, total=total)
        shard.optimize()
        # Creating payload indexes takes less time after the vectors have been indexed.
        for field, kind in {**schema.PAYLOAD_INDEXES, **layout.payload}.items():
            index = _INDEXES[kind](enable_hnsw=False)  # see ACORN_MAX_SELECTIVITY
            shard.update(edge.UpdateOperation.create_field_index(field, index))
        shard.flush()
        shard.close()


def _config(layout: Layout) -> Any:
    sparse = {schema.SPARSE: edge.EdgeSparseVectorParams(memory=edge.Memory.Cached)}
    if layout.has_spelling:
        sparse[schema.SPELLING] = edge.EdgeSparseVectorParams(
            memory=edge.Memory.Cached, modifier=edge.Modifier.Idf
        )
    return edge.EdgeConfig(
        vectors={
            schema.DENSE: edge.EdgeVectorParams(
                size=layout.dimensions, distance=edge.Distance.Cosine
            )
        },
        sparse_vectors=sparse,
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


def _points(batch: pa.RecordBatch, has_spelling: bool) -> list[Any]:
    points = []
    for row in batch.to_pylist():
        vectors: dict[str, Any] = {}
        if row["vector"] is not None:
            vectors[schema.DENSE] = row["vector"]
        if row["seeds"]:
            vectors[schema.SPARSE] = edge.SparseVector(row["seeds"], row["strengths"])
        if has_spelling:
            spelling = build_spelling_vector(row["search_text"], row["ordinal"])
            vectors[schema.SPELLING] = edge.SparseVector(list(spelling), list(spelling.values()))
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


def main(songs_path: str, layout: str, shard_path: str, *part: str) -> int:
    """Build a shard, and write the result or the error to standard output.

    `part` is empty, or contains the number of the part and the number of parts. Returns the exit
    code: 0, or 1 after an error.
    """
    _die_with_parent()
    arguments = Path(songs_path), Layout(**json.loads(layout)), Path(shard_path)
    try:
        if part:
            build_part(*arguments, *map(int, part))
        else:
            build(*arguments)
    except (EngineError, OSError) as error:
        _report(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
