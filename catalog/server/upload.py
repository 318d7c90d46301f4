"""Upload the songs of a draft into a new collection."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from qdrant_client import models

from catalog import schema
from catalog.draft import require_sound_vectors
from catalog.server.connection import create_collection
from catalog.server.digest import Digest, compute_digest
from catalog.spelling import build_spelling_vector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.console.progress import Task
    from catalog.draft import Draft
    from catalog.server.connection import Nodes
    from catalog.server.options import CollectionLayout

BATCH = 500
"""Number of songs per request."""

UPLOADERS = 4
"""Number of concurrent requests."""

SAMPLES = 64
"""Approximate number of songs that are read back and compared after the upload."""

LARGEST_SEGMENT_KB = 1 << 30
"""Maximum size of a segment in KB.

No release is so large. Therefore, all songs stay in the segments that Qdrant creates with the
collection, one per processor."""

LARGEST_LIMIT = 10_000
"""Maximum number of hits per query, which the server enforces (strict mode)."""

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
        max_token_len=schema.MAX_PREFIX_LENGTH,
        lowercase=True,
    ),
}


@dataclass(frozen=True)
class Uploaded:
    """The digests of uploaded songs (see `catalog.server.digest`).

    - `digest`: the digest of all songs, as 32 hexadecimal digits.
    - `samples`: the digests of about `SAMPLES` songs, by song id.
    """

    digest: str
    samples: dict[str, int]


def compute_checksum(path: Path) -> str:
    """Return the SHA-256 of a draft's Parquet file, in hexadecimal. It identifies the draft."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create(
    nodes: Nodes,
    collection: str,
    draft: Draft,
    layout: CollectionLayout,
    metadata: dict[str, Any],
) -> None:
    """Create an empty collection with payload indexes.

    Vectors are not indexed until `catalog.server.indexing.build_index` is called. `metadata` is
    stored with the collection.
    """
    settings = _settings(draft, layout)
    create_collection(nodes, collection, **settings, metadata=metadata)
    for field, kind in {**schema.PAYLOAD_INDEXES, **draft.payload}.items():
        _create_payload_index(nodes, collection, field, kind)


def _settings(draft: Draft, layout: CollectionLayout) -> dict[str, Any]:
    on_disk = layout.storage != "memory"
    quantization = models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(
            type=models.ScalarType.INT8, quantile=0.99, always_ram=True
        )
    )
    dense = models.VectorParams(
        size=draft.dimensions,
        distance=models.Distance.COSINE,
        on_disk=on_disk,
        quantization_config=quantization if layout.storage == "quantized" else None,
    )
    index = models.SparseIndexParams(on_disk=on_disk)
    sparse = {schema.SPARSE: models.SparseVectorParams(index=index)}
    if draft.has_spelling:
        sparse[schema.SPELLING] = models.SparseVectorParams(
            index=index, modifier=models.Modifier.IDF
        )
    return {
        "vectors_config": {schema.DENSE: dense},
        "sparse_vectors_config": sparse,
        "hnsw_config": models.HnswConfigDiff(
            m=schema.HNSW_M,
            ef_construct=schema.HNSW_EF_CONSTRUCT,
            full_scan_threshold=schema.FULL_SCAN_THRESHOLD_KB,
            on_disk=layout.storage == "disk",
        ),
        "optimizers_config": models.OptimizersConfigDiff(
            indexing_threshold=0, max_segment_size=LARGEST_SEGMENT_KB
        ),
        "strict_mode_config": models.StrictModeConfig(
            enabled=True,
            max_query_limit=LARGEST_LIMIT,
            unindexed_filtering_retrieve=False,
            unindexed_filtering_update=False,
        ),
        "shard_number": layout.shards,
        "replication_factor": layout.replicas,
        "write_consistency_factor": layout.write_consistency,
        "on_disk_payload": on_disk,
    }


def _create_payload_index(nodes: Nodes, collection: str, field: str, kind: schema.Kind) -> None:
    # Filtered searches use ACORN instead of extra HNSW links (see ACORN_MAX_SELECTIVITY).
    index = _INDEXES[kind].model_copy(update={"enable_hnsw": False})
    nodes.request(
        f"index the field {field}",
        lambda client: client.create_payload_index(collection, field, index, wait=True),
    )


def upload(
    nodes: Nodes, collection: str, draft: Draft, task: Task, *, is_resumed: bool
) -> Uploaded:
    """Upload the songs of the draft, and return their digests.

    If `is_resumed`, batches whose songs are all on the server are not uploaded again. At most a few
    batches are in memory at the same time. `task` displays the progress. Raises
    `EngineError`, `UnavailableError` or `StorageError`.
    """
    songs = pq.ParquetFile(draft.songs_path)
    total = songs.metadata.num_rows
    step = max(1, total // SAMPLES)
    digest, samples, done = Digest(), {}, 0
    with ThreadPoolExecutor(UPLOADERS) as pool:
        pending: deque[Future[int]] = deque()
        try:
            for rows in _read_batches(songs, draft.dimensions):
                for index in range(-digest.songs % step, len(rows), step):
                    samples[rows[index]["song_id"]] = compute_digest(rows[index])
                digest.add(rows)
                points = [_build_point(row, draft.has_spelling) for row in rows]
                pending.append(pool.submit(_upload_batch, nodes, collection, points, is_resumed))
                while len(pending) > 2 * UPLOADERS:
                    done += pending.popleft().result()
                    task.advance(done, total)
            while pending:
                done += pending.popleft().result()
                task.advance(done, total)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return Uploaded(digest.hex(), samples)


def _read_batches(songs: pq.ParquetFile, dimensions: int) -> Iterator[list[dict[str, Any]]]:
    for batch in songs.iter_batches(BATCH):
        require_sound_vectors(batch, dimensions)
        rows = batch.to_pylist()
        for row in rows:
            if row["vector"] is not None:
                row["vector"] = _scale_like_qdrant(row["vector"])
        yield rows


def _scale_like_qdrant(numbers: Sequence[float]) -> list[float]:
    # Qdrant scales a vector to unit length if its squared length differs from 1 by more than 1e-6.
    # The digest is compared with the digest of the stored vector, so the vector is scaled here.
    vector = np.asarray(numbers, dtype=np.float32)
    squared_length = float(np.dot(vector.astype(np.float64), vector))
    if abs(squared_length - 1.0) <= 1e-6:
        return list(numbers)
    scaled: list[float] = (vector / np.float32(np.sqrt(squared_length))).tolist()
    return scaled


def _upload_batch(
    nodes: Nodes, collection: str, points: list[models.PointStruct], is_resumed: bool
) -> int:
    if not (is_resumed and _is_uploaded(nodes, collection, points)):
        nodes.request("upload songs", lambda client: client.upsert(collection, points, wait=True))
    return len(points)


def _is_uploaded(nodes: Nodes, collection: str, points: list[models.PointStruct]) -> bool:
    ids = [point.id for point in points]
    records = nodes.request(
        "look up songs",
        lambda client: client.retrieve(collection, ids, with_payload=False, with_vectors=False),
    )
    return len(records) == len(ids)


def _build_point(row: Mapping[str, Any], has_spelling: bool) -> models.PointStruct:
    vectors: dict[str, Any] = {}
    if row["vector"] is not None:
        vectors[schema.DENSE] = row["vector"]
    if row["seeds"]:
        vectors[schema.SPARSE] = models.SparseVector(indices=row["seeds"], values=row["strengths"])
    if has_spelling:
        spelling = build_spelling_vector(row["search_text"], row["ordinal"])
        vectors[schema.SPELLING] = models.SparseVector(
            indices=list(spelling), values=list(spelling.values())
        )
    return models.PointStruct(id=row["song_id"], vector=vectors, payload=schema.build_payload(row))
