"""Qdrant Edge, the engine of the embedded home: one finished shard, opened for reading.

Every call holds the interpreter for its few tenths of a millisecond, so the coroutines here never
yield: concurrency comes from processes. A finished shard is never written to.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from catalog.errors import CorruptReleaseError, EngineError
from catalog.release import ANY, Filter, Hit, Point, Song, Vector
from catalog.schema import (
    DENSE,
    FUSED_DEPTH,
    RRF_K,
    SONG_FIELDS,
    SPARSE,
    search_ef,
    song_of,
)
from catalog.songs import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.manifest import Manifest


@contextmanager
def engine_errors(task: str) -> Iterator[None]:
    """Turn whatever the engine raises during `task` into `EngineError`.

    The engine raises bare `Exception`s and, when it panics, a `BaseException`.
    """
    try:
        yield
    except (EngineError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(f"Qdrant Edge failed to {task}: {first_line}") from error


class EdgeRelease:
    """A release in the embedded home (see `catalog.release.OpenRelease`)."""

    def __init__(self, shard: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._params = edge.SearchParams(hnsw_ef=search_ef(manifest.counts.songs))
        with engine_errors(f"open {shard}"):
            self._shard = edge.EdgeShard.load(str(shard))

    @property
    def manifest(self) -> Manifest:
        """The account of the release."""
        return self._manifest

    def verify(self) -> None:
        """Raise `CorruptReleaseError` unless the engine holds what the manifest says.

        The songs are counted, and each canary must be found by its own vector.
        """
        expected = self._manifest.counts.songs
        with engine_errors("count"):
            found = int(self._shard.count(edge.CountRequest(exact=True)))
        if found != expected:
            raise CorruptReleaseError(f"the engine holds {found} songs of {expected}")
        try:
            canaries = [UUID(canary) for canary in self._manifest.canaries]
        except ValueError as error:
            raise CorruptReleaseError("the manifest's canaries are no song ids") from error
        points = self._points(canaries)
        for canary in canaries:
            vector = points[canary].vector if canary in points else None
            found_by_it = [] if vector is None else self._nearest(vector, 1)
            if not found_by_it or found_by_it[0].score < 0.999:
                raise CorruptReleaseError(f"song {canary} cannot be found by its own vector")

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """The songs of these ids with their vectors; unknown ids are left out."""
        return self._points(song_ids)

    async def nearest(self, vector: Vector, limit: int, where: Filter = ANY) -> list[Hit]:
        """At most `limit` songs, the most similar to `vector` (shape (dimensions,)) first."""
        return self._nearest(vector, limit, where)

    async def predicted(
        self, weights: Mapping[int, float], limit: int, where: Filter = ANY
    ) -> list[Hit]:
        """At most `limit` songs that co-occur with seeds, the most strongly predicted first."""
        query = edge.Query.Nearest(_sparse(weights), using=SPARSE)
        return self._query(limit, query=query, filter=_filter(where))

    async def fused(
        self,
        vector: Vector,
        weights: Mapping[int, float],
        dense_weight: float,
        limit: int,
        where: Filter = ANY,
    ) -> list[Hit]:
        """At most `limit` songs from `predicted` and `nearest`, fused by reciprocal rank."""
        depth = max(FUSED_DEPTH, 2 * limit)
        passing = _filter(where)
        predicted = edge.Query.Nearest(_sparse(weights), using=SPARSE)
        nearest = edge.Query.Nearest(vector.tolist(), using=DENSE)
        searches = [
            edge.Prefetch(depth, predicted, filter=passing),
            edge.Prefetch(depth, nearest, filter=passing, params=self._params),
        ]
        fusion = edge.Fusion.Rrf(k=RRF_K, weights=[1.0, dense_weight])
        return self._query(limit, prefetches=searches, query=fusion)

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """At most `limit` songs, those in the most training playlists first."""
        return [_point(record) for record in self._by_popularity(limit, _filter(where), [DENSE])]

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """At most `limit` songs with a word in artist or title for each beginning in `text`."""
        words = edge.FieldCondition("search_text", match=edge.MatchText(normalise(text)))
        records = self._by_popularity(limit, _filter(where, words), None)
        return [song_of(record.payload) for record in records]

    def _points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        with engine_errors("retrieve"):
            records = self._shard.retrieve(list(song_ids), SONG_FIELDS, [DENSE])
        return {UUID(str(record.id)): _point(record) for record in records}

    def _nearest(self, vector: Vector, limit: int, where: Filter = ANY) -> list[Hit]:
        query = edge.Query.Nearest(vector.tolist(), using=DENSE)
        hits = self._query(limit, query=query, filter=_filter(where), params=self._params)
        # The engine's rounding can pass 1.
        return [Hit(hit.song, min(1.0, max(-1.0, hit.score))) for hit in hits]

    def _query(self, limit: int, **request: Any) -> list[Hit]:
        with engine_errors("search"):
            found = self._shard.query(
                edge.QueryRequest(limit=limit, with_payload=SONG_FIELDS, **request)
            )
        return [Hit(song_of(hit.payload), float(hit.score)) for hit in found]

    def _by_popularity(self, limit: int, where: Any, vectors: list[str] | None) -> list[Any]:
        request = edge.ScrollRequest(
            limit=limit,
            filter=where,
            with_payload=SONG_FIELDS,
            with_vector=vectors,
            order_by=edge.OrderBy("ordinal", edge.Direction.Asc),
        )
        with engine_errors("list songs"):
            records, _ = self._shard.scroll(request)
        return list(records)

    def close(self) -> None:
        """Let go of the engine."""
        with engine_errors("close"):
            self._shard.close()


def _point(record: Any) -> Point:
    vector = (record.vector or {}).get(DENSE)
    found = None if vector is None else np.asarray(vector, dtype=np.float32)
    return Point(song_of(record.payload), found)


def _sparse(weights: Mapping[int, float]) -> Any:
    return edge.SparseVector(list(weights), list(weights.values()))


def _filter(where: Filter, *conditions: Any) -> Any:
    must = list(conditions)
    must_not = []
    if where.include_artists:
        must.append(_any_of("artist_key", where.include_artists))
    if where.exclude_artists:
        must_not.append(_any_of("artist_key", where.exclude_artists))
    if where.exclude_songs:
        must_not.append(edge.HasIdCondition(set(where.exclude_songs)))
    if where.min_playlists or where.max_playlists:
        playlists = edge.RangeFloat(
            gte=where.min_playlists or None, lte=where.max_playlists or None
        )
        must.append(edge.FieldCondition("playlists", range=playlists))
    if not must and not must_not:
        return None
    return edge.Filter(must=must or None, must_not=must_not or None)


def _any_of(field: str, values: frozenset[str]) -> Any:
    return edge.FieldCondition(field, match=edge.MatchAny(sorted(values)))
