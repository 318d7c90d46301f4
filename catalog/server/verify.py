"""Whether a collection holds what the manifest says: a quick look, a few songs, or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdrant_client import models

from catalog import schema
from catalog.digest import Digest, digest_of_row
from catalog.errors import CorruptReleaseError
from catalog.model import Search
from catalog.server.queries import dense_of, params_of, request_of
from catalog.server.upload import row_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from catalog.manifest import Manifest
    from catalog.model import Vector
    from catalog.progress import Task
    from catalog.server.connection import Nodes

BATCH = 1_000


def quickly(nodes: Nodes, collection: str, manifest: Manifest) -> int:
    """Raise `CorruptReleaseError` unless schema, indexes and counts are as the manifest says.

    The songs are counted, and each canary must be found by its own vector. Returns into how many
    shards the collection is split.
    """
    info = nodes.ask("look at the release", lambda client: client.get_collection(collection))
    _require_schema(info, manifest)
    found = nodes.ask("count songs", lambda client: client.count(collection, exact=True)).count
    if found != manifest.counts.songs:
        raise CorruptReleaseError(f"it holds {found} songs of {manifest.counts.songs}")
    canaries = _records(nodes, collection, manifest.canaries)
    for canary in manifest.canaries:
        vector = dense_of(canaries[canary]) if canary in canaries else None
        if vector is None or _best_score(nodes, collection, vector, manifest) < 0.999:
            raise CorruptReleaseError(f"song {canary} cannot be found by its own vector")
    return info.config.params.shard_number or 1


def _best_score(nodes: Nodes, collection: str, vector: Vector, manifest: Manifest) -> float:
    params = params_of(manifest)
    request = request_of(Search(vector, limit=1), ["song_id"], params)
    assert request is not None
    (response,) = nodes.ask(
        "search", lambda client: client.query_batch_points(collection, [request])
    )
    return max((hit.score for hit in response.points), default=-1.0)


def _require_schema(info: models.CollectionInfo, manifest: Manifest) -> None:
    vectors = info.config.params.vectors
    dense = vectors.get(schema.DENSE) if isinstance(vectors, dict) else None
    if dense is None or dense.size != manifest.dimensions:
        raise CorruptReleaseError(f"it has no vector {schema.DENSE} of {manifest.dimensions}")
    if schema.SPARSE not in (info.config.params.sparse_vectors or {}):
        raise CorruptReleaseError(f"it has no vector {schema.SPARSE}")
    for field, kind in {**schema.PAYLOAD_INDEXES, **manifest.payload}.items():
        index = info.payload_schema.get(field)
        if index is None or index.data_type.value != kind:
            raise CorruptReleaseError(f"the field {field} has no {kind} index")
    if info.status == models.CollectionStatus.RED:
        raise CorruptReleaseError(f"Qdrant gives it the status red: {info.optimizer_status}")


def samples(nodes: Nodes, collection: str, expected: Mapping[str, int]) -> None:
    """Raise `CorruptReleaseError` unless these songs have these digests."""
    records = _records(nodes, collection, list(expected))
    for song_id, digest in expected.items():
        if song_id not in records:
            raise CorruptReleaseError(f"song {song_id} is missing")
        if digest_of_row(row_of(records[song_id])) != digest:
            raise CorruptReleaseError(f"song {song_id} is not as it was uploaded")


def fully(
    nodes: Nodes, collection: str, manifest: Manifest, digest: str | None, task: Task
) -> None:
    """Raise `CorruptReleaseError` unless every bit of every song is as it was uploaded."""
    done = 0
    for rows in checked(batches(nodes, collection), digest, manifest.counts.songs):
        done += len(rows)
        task.advance(done, manifest.counts.songs)


def batches(nodes: Nodes, collection: str) -> Iterator[list[dict[str, Any]]]:
    """All songs, as `catalog.draft.Draft` has them."""
    offset: Any = None
    while True:
        records, offset = _page(nodes, collection, offset)
        yield [row_of(record) for record in records]
        if offset is None:
            return


def _page(nodes: Nodes, collection: str, offset: Any) -> tuple[list[models.Record], Any]:
    return nodes.ask(
        "read songs",
        lambda client: client.scroll(
            collection, limit=BATCH, offset=offset, with_payload=True, with_vectors=True
        ),
    )


def checked(
    rows: Iterable[list[dict[str, Any]]], digest: str | None, songs: int
) -> Iterator[list[dict[str, Any]]]:
    """The same batches; after the last, `CorruptReleaseError` unless they add up to `digest`."""
    found = Digest()
    for batch in rows:
        found.add(batch)
        yield batch
    if found.songs != songs:
        raise CorruptReleaseError(f"it holds {found.songs} songs of {songs}")
    if found.hex() != digest:
        raise CorruptReleaseError("a song was changed: payloads or vectors are not as published")


def _records(nodes: Nodes, collection: str, ids: list[str]) -> dict[str, models.Record]:
    found = nodes.ask(
        "retrieve",
        lambda client: client.retrieve(collection, ids, with_payload=True, with_vectors=True),
    )
    return {str(record.id): record for record in found}
