"""Fills a collection with the songs of a draft: settings, payload indexes, upload, index."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from qdrant_client import models

from catalog import schema
from catalog.digest import Digest, digest_of_row
from catalog.draft import require_sound_vectors
from catalog.errors import EngineError
from catalog.server.queries import dense_of, strengths_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.draft import Draft
    from catalog.progress import Task
    from catalog.server.connection import Nodes
    from catalog.server.options import Layout, Storage

BATCH = 500
UPLOADERS = 4
PATIENCE_S = 120.0
"""How long publishing goes on trying while no node answers."""

SAMPLES = 64
POLL_S = 0.25
SETTLED_POLLS = 3
"""How often in a row the index must look finished."""

IDLE_S, STUCK_S = 120.0, 6 * 3600.0
"""How long an index that is not complete may stand still: idle, and while it is being built."""

REPLICAS_S = 1800.0
"""How long replicas may stand still while one is being filled."""

NUDGE_S = 10.0
"""An optimiser that is idle, and has something to do, is told again after so long."""

INDEXING_THRESHOLD_KB = 1_000
LARGEST_SEGMENT_KB = 1 << 30
"""Of vectors: songs stay in the segments that a collection begins with, one for each processor."""

LARGEST_LIMIT = 10_000

_INDEXES: Mapping[schema.Kind, Any] = {
    "keyword": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD),
    "integer": models.IntegerIndexParams(
        type=models.IntegerIndexType.INTEGER, lookup=True, range=True
    ),
    "float": models.FloatIndexParams(type=models.FloatIndexType.FLOAT),
    "text": models.TextIndexParams(
        type=models.TextIndexType.TEXT,
        tokenizer=models.TokenizerType.PREFIX,
        min_token_len=1,
        max_token_len=schema.LONGEST_PREFIX,
        lowercase=True,
    ),
}


@dataclass(frozen=True)
class Uploaded:
    """What went up: the digest of all songs, and those of a few, by their ids."""

    digest: str
    samples: dict[str, int]


def sum_of(path: Path) -> str:
    """The SHA-256 of a file: two drafts with the same one are the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create(
    nodes: Nodes, collection: str, draft: Draft, layout: Layout, metadata: dict[str, Any]
) -> None:
    """Make the empty collection, its payload indexes first, with indexing of vectors deferred."""
    try:
        _create(nodes, collection, draft.dimensions, layout, metadata)
    except EngineError:
        # An answer that was lost may have been a yes; nobody else makes one of this name.
        if not nodes.ask("look for it", lambda client: client.collection_exists(collection)):
            raise
    for field, kind in {**schema.PAYLOAD_INDEXES, **draft.payload}.items():
        make_index(nodes, collection, field, kind)


def _create(
    nodes: Nodes, collection: str, dimensions: int, layout: Layout, metadata: dict[str, Any]
) -> None:
    on_disk = layout.storage != "memory"
    nodes.ask(
        "create a collection",
        lambda client: client.create_collection(
            collection,
            vectors_config={
                schema.DENSE: models.VectorParams(
                    size=dimensions,
                    distance=models.Distance.COSINE,
                    on_disk=on_disk,
                    quantization_config=_compressed(layout.storage),
                )
            },
            sparse_vectors_config={
                schema.SPARSE: models.SparseVectorParams(
                    index=models.SparseIndexParams(on_disk=on_disk)
                )
            },
            hnsw_config=models.HnswConfigDiff(
                m=schema.HNSW_M,
                ef_construct=schema.HNSW_EF_CONSTRUCT,
                full_scan_threshold=schema.FULL_SCAN_THRESHOLD_KB,
                on_disk=layout.storage == "disk",
            ),
            optimizers_config=models.OptimizersConfigDiff(
                indexing_threshold=0, max_segment_size=LARGEST_SEGMENT_KB
            ),
            strict_mode_config=models.StrictModeConfig(
                enabled=True,
                max_query_limit=LARGEST_LIMIT,
                unindexed_filtering_retrieve=False,
                unindexed_filtering_update=False,
            ),
            shard_number=layout.shards,
            replication_factor=layout.replicas,
            write_consistency_factor=layout.write_consistency,
            on_disk_payload=on_disk,
            metadata=metadata,
        ),
    )


def make_index(nodes: Nodes, collection: str, field: str, kind: schema.Kind) -> None:
    """Index a payload field."""
    index = _INDEXES[kind].model_copy(update={"enable_hnsw": field not in schema.UNLINKED})
    nodes.ask(
        f"index the field {field}",
        lambda client: client.create_payload_index(collection, field, index, wait=True),
    )


def _compressed(storage: Storage) -> models.ScalarQuantization | None:
    if storage != "quantized":
        return None
    return models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(
            type=models.ScalarType.INT8, quantile=0.99, always_ram=True
        )
    )


def upload(nodes: Nodes, collection: str, draft: Draft, task: Task, *, resumed: bool) -> Uploaded:
    """Put all songs of the draft into the collection; `resumed`, only those not there yet.

    A few batches at once are in memory. Raises `EngineError`, `UnavailableError` or `StorageError`.
    """
    songs = pq.ParquetFile(draft.songs_path)
    total = songs.metadata.num_rows
    every = max(1, total // SAMPLES)
    digest, samples, done = Digest(), {}, 0
    with ThreadPoolExecutor(UPLOADERS) as pool:
        waiting: deque[tuple[Future[None], int]] = deque()
        try:
            for rows in _rows(songs, draft.dimensions):
                for place in range(-digest.songs % every, len(rows), every):
                    samples[rows[place]["song_id"]] = digest_of_row(rows[place])
                digest.add(rows)
                waiting.append((pool.submit(_put, nodes, collection, rows, resumed), len(rows)))
                while len(waiting) > 2 * UPLOADERS:
                    done += _finished(*waiting.popleft())
                    task.advance(done, total)
            while waiting:
                done += _finished(*waiting.popleft())
                task.advance(done, total)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return Uploaded(digest.hex(), samples)


def _finished(batch: Future[None], songs: int) -> int:
    batch.result()
    return songs


def _rows(songs: pq.ParquetFile, dimensions: int) -> Iterator[list[dict[str, Any]]]:
    for batch in songs.iter_batches(BATCH):
        require_sound_vectors(batch, dimensions)
        rows = batch.to_pylist()
        for row in rows:
            if row["vector"] is not None:
                row["vector"] = _as_the_engine_keeps_it(row["vector"])
        yield rows


def _as_the_engine_keeps_it(numbers: Sequence[float]) -> list[float]:
    # Qdrant scales a vector whose squared length is further than this from 1.
    vector = np.asarray(numbers, dtype=np.float32)
    length = float(np.dot(vector.astype(np.float64), vector))
    if abs(length - 1.0) <= 1e-6:
        return list(numbers)
    scaled: list[float] = (vector / np.float32(np.sqrt(length))).tolist()
    return scaled


def _put(nodes: Nodes, collection: str, rows: list[dict[str, Any]], resumed: bool) -> None:
    points = [point_of(row) for row in rows]
    if not (resumed and _all_there(nodes, collection, points)):
        nodes.ask("upload songs", lambda client: client.upsert(collection, points, wait=True))


def _all_there(nodes: Nodes, collection: str, points: list[models.PointStruct]) -> bool:
    ids = [point.id for point in points]
    found = nodes.ask(
        "look for songs",
        lambda client: client.retrieve(collection, ids, with_payload=False, with_vectors=False),
    )
    return len(found) == len(ids)


def point_of(row: Mapping[str, Any]) -> models.PointStruct:
    """A song of a draft as a point."""
    vectors: dict[str, Any] = {}
    if row["vector"] is not None:
        vectors[schema.DENSE] = row["vector"]
    if row["seeds"]:
        vectors[schema.SPARSE] = models.SparseVector(indices=row["seeds"], values=row["strengths"])
    payload = {
        name: value
        for name, value in row.items()
        if value is not None and name not in {"vector", "seeds", "strengths"}
    }
    return models.PointStruct(id=row["song_id"], vector=vectors, payload=payload)


def row_of(record: models.Record) -> dict[str, Any]:
    """A point as a song of a draft."""
    vector = dense_of(record)
    strengths = strengths_of(record)
    return {
        **(record.payload or {}),
        "vector": None if vector is None else vector.tolist(),
        "seeds": list(strengths) or None,
        "strengths": list(strengths.values()) or None,
    }


def build_index(nodes: Nodes, collection: str, draft: Draft, task: Task) -> int:
    """Let the engine index the vectors, and wait until it has; returns how many it indexed.

    A green status can come before the engine has begun, so it must last, and no more vectors may
    be left than small segments, which are searched exactly and rightly stay without, can hold.
    Raises `EngineError` if the optimiser fails or stands still.
    """
    vectors = draft.counts.vectors
    per_segment = INDEXING_THRESHOLD_KB * 1024 // (4 * draft.dimensions) + 1
    look = nodes.ask("look at the segments", lambda client: client.get_collection(collection))
    segments = look.segments_count + 1  # an empty one comes to those that are indexed
    _index(nodes, collection, segments)
    settled, before = 0, (-1, "")
    moved = nudged = time.monotonic()
    while settled < SETTLED_POLLS:
        time.sleep(POLL_S)
        now = time.monotonic()
        info = nodes.ask("look at the index", lambda client: client.get_collection(collection))
        if info.optimizer_status != models.OptimizersStatusOneOf.OK:
            raise EngineError(f"Qdrant failed to index {collection}: {info.optimizer_status}")
        indexed, status = info.indexed_vectors_count or 0, info.status.value
        if (indexed, status) != before:
            moved = now
        idle = info.status != models.CollectionStatus.YELLOW
        if now - moved > (IDLE_S if idle else STUCK_S):
            raise EngineError(
                f"Qdrant indexes {collection} no further: {indexed:,} of {vectors:,} vectors, "
                f"{status}; look at the server's log, and run again"
            )
        if idle and now - max(moved, nudged) > NUDGE_S:
            _index(nodes, collection, segments)
            nudged = now
        enough = indexed >= vectors - per_segment * max(1, info.segments_count)
        quiet = info.status == models.CollectionStatus.GREEN and (indexed, status) == before
        settled = settled + 1 if quiet and enough else 0
        before = (indexed, status)
        task.advance(min(indexed, vectors), vectors)
    await_replicas(nodes, collection)
    return before[0]


def _index(nodes: Nodes, collection: str, segments: int) -> None:
    """Begin to index; up to so many segments are not merged, which would index them once more."""
    wanted = models.OptimizersConfigDiff(
        indexing_threshold=INDEXING_THRESHOLD_KB, default_segment_number=segments
    )
    nodes.ask(
        "begin to index",
        lambda client: client.update_collection(collection, optimizers_config=wanted),
    )


def await_replicas(nodes: Nodes, collection: str) -> None:
    """Wait until each shard's replicas all hold it.

    Raises `EngineError` if one is dead, or none gets any further.
    """
    moved, before = time.monotonic(), list[Any]()
    while True:
        info = nodes.ask(
            "look at the replicas", lambda client: client.collection_cluster_info(collection)
        )
        states = [shard.state for shard in info.local_shards]
        states += [shard.state for shard in info.remote_shards]
        if models.ReplicaState.DEAD in states:
            raise EngineError(f"a replica of {collection} is dead: is a node of the cluster away?")
        if all(state == models.ReplicaState.ACTIVE for state in states):
            return
        if states != before:
            moved, before = time.monotonic(), states
        if time.monotonic() - moved > REPLICAS_S:
            raise EngineError(
                f"the replicas of {collection} get no further: see `nextsong doctor`, and run again"
            )
        time.sleep(POLL_S)
