"""Compare a collection with the manifest and the digests of its release.

There are three checks: of the schema and the number of songs, of sampled songs, and of all songs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdrant_client import models

from catalog import schema
from catalog.errors import CorruptReleaseError
from catalog.model import Search
from catalog.search.plan import Ranking
from catalog.server.digest import Digest, compute_digest
from catalog.server.queries import (
    build_request,
    build_search_params,
    parse_dense_vector,
    parse_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from catalog.console.progress import Task
    from catalog.manifest import Manifest
    from catalog.model import Vector
    from catalog.server.connection import Nodes

BATCH = 1_000
"""Number of songs per request when all songs are read."""

_VECTORS = [schema.DENSE, schema.SPARSE]

MIN_CANARY_SCORE = 0.999
"""Minimum cosine similarity of the best hit for the vector of a canary.

The canaries of a release are songs that are searched to test its index (see `Manifest.canaries`).
"""


def verify_summary(nodes: Nodes, collection: str, manifest: Manifest) -> None:
    """Raise `CorruptReleaseError` if a collection does not match the manifest of its release.

    The names and sizes of the vectors, the payload indexes and the number of songs must match. Each
    canary (see `Manifest.canaries`) must be found by its own vector.
    """
    info = nodes.request("read the collection", lambda client: client.get_collection(collection))
    _require_schema(info, manifest)
    songs = nodes.request("count songs", lambda client: client.count(collection, exact=True)).count
    if songs != manifest.counts.songs:
        raise CorruptReleaseError(f"it holds {songs} songs of {manifest.counts.songs}")
    canaries = _retrieve(nodes, collection, manifest.canaries)
    for canary in manifest.canaries:
        vector = parse_dense_vector(canaries[canary]) if canary in canaries else None
        if vector is None or _best_score(nodes, collection, vector, manifest) < MIN_CANARY_SCORE:
            raise CorruptReleaseError(f"song {canary} cannot be found by its own vector")


def _best_score(nodes: Nodes, collection: str, vector: Vector, manifest: Manifest) -> float:
    ranking = Ranking(Search(vector, limit=1), schema.DENSE, 1)
    request = build_request(ranking, None, build_search_params(manifest))
    (response,) = nodes.request(
        "search", lambda client: client.query_batch_points(collection, [request])
    )
    return max((point.score for point in response.points), default=-1.0)


def _require_schema(info: models.CollectionInfo, manifest: Manifest) -> None:
    vectors = info.config.params.vectors
    dense = vectors.get(schema.DENSE) if isinstance(vectors, dict) else None
    if dense is None or dense.size != manifest.dimensions:
        raise CorruptReleaseError(
            f"it has no vector {schema.DENSE} of {manifest.dimensions} dimensions"
        )
    for name in [schema.SPARSE, schema.SPELLING] if manifest.has_spelling else [schema.SPARSE]:
        if name not in (info.config.params.sparse_vectors or {}):
            raise CorruptReleaseError(f"it has no vector {name}")
    for field, kind in {**schema.PAYLOAD_INDEXES, **manifest.payload}.items():
        index = info.payload_schema.get(field)
        if index is None or index.data_type.value != kind:
            raise CorruptReleaseError(f"the field {field} has no {kind} index")
    if info.status == models.CollectionStatus.RED:
        raise CorruptReleaseError(f"its status in Qdrant is red: {info.optimizer_status}")


def verify_samples(nodes: Nodes, collection: str, expected: Mapping[str, int]) -> None:
    """Raise `CorruptReleaseError` if a song is missing or its digest has changed.

    `expected` maps song ids to digests (see `compute_digest`).
    """
    records = _retrieve(nodes, collection, list(expected))
    for song_id, digest in expected.items():
        if song_id not in records:
            raise CorruptReleaseError(f"song {song_id} is missing")
        if compute_digest(_parse_row(records[song_id])) != digest:
            raise CorruptReleaseError(f"song {song_id} differs from the uploaded song")


def verify_all(
    nodes: Nodes, collection: str, manifest: Manifest, digest: str | None, task: Task
) -> None:
    """Read all songs. Raises `CorruptReleaseError` if a payload or a vector has changed.

    `digest` is the digest of all songs, from the metadata of the collection, or None if it is
    missing, which also raises `CorruptReleaseError`. `task` displays the progress.
    """
    done = 0
    for rows in verify_batches(read_batches(nodes, collection), digest, manifest.counts.songs):
        done += len(rows)
        task.advance(done, manifest.counts.songs)


def verify_batches(
    batches: Iterable[list[dict[str, Any]]], digest: str | None, songs: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the batches of draft rows unchanged, and verify their contents after the last batch.

    Raises `CorruptReleaseError` if the number of rows is not `songs`, or if the digest of all rows
    (see `catalog.server.digest.Digest`) is not `digest`.
    """
    actual = Digest()
    for rows in batches:
        actual.add(rows)
        yield rows
    if actual.songs != songs:
        raise CorruptReleaseError(f"it holds {actual.songs} songs of {songs}")
    if actual.hex() != digest:
        raise CorruptReleaseError("a song was changed: payloads or vectors are not as published")


def read_batches(nodes: Nodes, collection: str) -> Iterator[list[dict[str, Any]]]:
    """Yield all songs in batches of rows as described in `catalog.draft.Draft`."""
    offset: Any = None
    while True:
        records, offset = _read_page(nodes, collection, offset)
        yield [_parse_row(record) for record in records]
        if offset is None:
            return


def _read_page(nodes: Nodes, collection: str, offset: Any) -> tuple[list[models.Record], Any]:
    return nodes.request(
        "read songs",
        lambda client: client.scroll(
            collection, limit=BATCH, offset=offset, with_payload=True, with_vectors=_VECTORS
        ),
    )


def _retrieve(nodes: Nodes, collection: str, ids: list[str]) -> dict[str, models.Record]:
    records = nodes.request(
        "retrieve",
        lambda client: client.retrieve(collection, ids, with_payload=True, with_vectors=_VECTORS),
    )
    return {str(record.id): record for record in records}


def _parse_row(record: models.Record) -> dict[str, Any]:
    return schema.build_row(record.payload or {}, parse_dense_vector(record), parse_weights(record))
