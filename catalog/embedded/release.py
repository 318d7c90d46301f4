"""Qdrant Edge, the engine of the embedded home: one finished shard, opened for reading.

Every call holds the interpreter for its few tenths of a millisecond, so concurrency comes from
processes; the coroutines here pause between calls alone. A finished shard is never written to.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from catalog.errors import CorruptReleaseError, EngineError
from catalog.model import ANY, Filter, Hit, Point, Search, Song, Value, Vector, by_score
from catalog.schema import (
    DENSE,
    SONG_FIELDS,
    SPARSE,
    cosine_of,
    floor_of,
    fusion_depths,
    search_ef,
    song_of,
)
from catalog.song import normalise
from catalog.turns import turn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.manifest import Manifest

POINTS_AT_ONCE = 200
STRENGTHS_AT_ONCE = 20
"""A call of the engine is for so many songs, and others have their turn before the next."""


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


class EmbeddedRelease:
    """A release in the embedded home (see `catalog.store.OpenRelease`)."""

    def __init__(self, shard: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._fields = [*SONG_FIELDS, *manifest.payload]
        width = manifest.search_ef or search_ef(manifest.counts.songs)
        self._params = edge.SearchParams(hnsw_ef=width)
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
            found_by_it = [] if vector is None else self._find(Search(vector, limit=1), {})
            if not found_by_it or found_by_it[0].score < 0.999:
                raise CorruptReleaseError(f"song {canary} cannot be found by its own vector")

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """The songs of these ids with their vectors; unknown ids are left out."""
        points: dict[UUID, Point] = {}
        for start in range(0, len(song_ids), POINTS_AT_ONCE):
            points |= self._points(song_ids[start : start + POINTS_AT_ONCE])
            await turn()
        return points

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """The songs that each search finds, best first, all asked in one go."""
        found = []
        songs: dict[UUID, Song] = {}
        for search in searches:
            found.append(self._find(search, songs))
            await turn()
        return found

    async def strengths(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        """How strongly each seed, by its ordinal, predicts these songs; unknown ids left out."""
        strengths: dict[UUID, dict[int, float]] = {}
        for start in range(0, len(song_ids), STRENGTHS_AT_ONCE):
            some = list(song_ids[start : start + STRENGTHS_AT_ONCE])
            with engine_errors("retrieve"):
                records = self._shard.retrieve(some, False, [SPARSE])
            strengths |= {record.id: _strengths(record) for record in records}
            await turn()
        return strengths

    async def similarities(
        self, asked: Sequence[tuple[Vector, Sequence[UUID]]]
    ) -> list[dict[UUID, float]]:
        """The cosines of a vector with these songs, -1 to 1, for each that is asked about."""
        cosines = []
        for vector, song_ids in asked:
            cosines.append(self._similarities(vector, song_ids))
            await turn()
        return cosines

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
            records = self._shard.retrieve(list(song_ids), self._fields, [DENSE])
        return {record.id: _point(record) for record in records}

    def _find(self, search: Search, songs: dict[UUID, Song]) -> list[Hit]:
        """What a search finds; `songs` are those known by their ids, which the found ones join."""
        passing = _filter(search.where)
        params = edge.SearchParams(exact=True) if search.exact else self._params
        nearest = search.vector is not None and edge.Query.Nearest(
            search.vector.tolist(), using=DENSE
        )
        predicted = search.weights and edge.Query.Nearest(_sparse(search.weights), using=SPARSE)
        floor = floor_of(search.weights)
        request: dict[str, Any]
        if nearest and predicted:
            of_company, of_likeness = fusion_depths(search.limit)
            best = self._best(predicted, passing, floor)
            request = {
                "prefetches": [
                    edge.Prefetch(of_company, predicted, filter=passing, score_threshold=floor),
                    edge.Prefetch(of_likeness, nearest, filter=passing, params=params),
                ],
                "query": _fused(best, search.dense_weight),
            }
        elif nearest:
            request = {"query": nearest, "filter": passing, "params": params}
        elif predicted:
            request = {"query": predicted, "filter": passing, "score_threshold": floor}
        else:
            return []
        found = self._query(
            limit=search.limit,
            with_payload=self._fields,
            with_vector=[DENSE] if search.with_vectors else None,
            **request,
        )
        hits = [Hit(_song(hit, songs), float(hit.score), _dense(hit)) for hit in found]
        hits.sort(key=by_score)
        if nearest and not predicted:
            return [replace(hit, score=cosine_of(hit.score)) for hit in hits]
        return hits

    def _best(self, predicted: Any, passing: Any, floor: float | None) -> float:
        """The highest score by co-occurrence, or 1 where nothing is predicted."""
        found = self._query(limit=1, query=predicted, filter=passing, score_threshold=floor)
        return float(found[0].score) if found and found[0].score > 0 else 1.0

    def _similarities(self, vector: Vector, song_ids: Sequence[UUID]) -> dict[UUID, float]:
        if not song_ids:
            return {}
        found = self._query(
            limit=len(song_ids),
            query=edge.Query.Nearest(vector.tolist(), using=DENSE),
            filter=edge.Filter(must=[edge.HasIdCondition(set(song_ids))]),
            params=edge.SearchParams(exact=True),
        )
        return {hit.id: cosine_of(hit.score) for hit in found}

    def _query(self, **request: Any) -> list[Any]:
        with engine_errors("search"):
            return list(self._shard.query(edge.QueryRequest(**request)))

    def _by_popularity(self, limit: int, where: Any, vectors: list[str] | None) -> list[Any]:
        request = edge.ScrollRequest(
            limit=limit,
            filter=where,
            with_payload=self._fields,
            with_vector=vectors,
            order_by=edge.OrderBy("ordinal", edge.Direction.Asc),
        )
        with engine_errors("list songs"):
            records, _ = self._shard.scroll(request)
        return list(records)

    def batches(self, size: int = 1_000) -> Iterator[list[dict[str, Any]]]:
        """All songs: payload, `vector`, `seeds` and `strengths`, as `catalog.draft` wants them."""
        offset = None
        while True:
            request = edge.ScrollRequest(
                limit=size, offset=offset, with_payload=True, with_vector=True
            )
            with engine_errors("read songs"):
                records, offset = self._shard.scroll(request)
            yield [_row(record) for record in records]
            if offset is None:
                return

    def close(self) -> None:
        """Let go of the engine."""
        with engine_errors("close"):
            self._shard.close()


def _song(hit: Any, known: dict[UUID, Song]) -> Song:
    own_id = hit.id
    if own_id not in known:
        known[own_id] = song_of(hit.payload)
    return known[own_id]


def _point(record: Any) -> Point:
    return Point(song_of(record.payload), _dense(record))


def _dense(record: Any) -> Vector | None:
    vector = (record.vector or {}).get(DENSE)
    return None if vector is None else np.asarray(vector, dtype=np.float32)


def _row(record: Any) -> dict[str, Any]:
    strengths = _strengths(record)
    return {
        **record.payload,
        "vector": (record.vector or {}).get(DENSE),
        "seeds": list(strengths) or None,
        "strengths": list(strengths.values()) or None,
    }


def _strengths(record: Any) -> dict[int, float]:
    sparse = (record.vector or {}).get(SPARSE)
    return {} if sparse is None else dict(zip(sparse.indices, sparse.values, strict=True))


def _fused(best: float, dense_weight: float) -> Any:
    """The score of a song from those of the two prefetches; see `Search`."""
    names = ("$score[0]", "$score[1]")
    terms = [
        edge.Expression.Mult([edge.Expression.Constant(weight), edge.Expression.Variable(name)])
        for name, weight in zip(names, (1 / best, dense_weight), strict=True)
    ]
    return edge.Formula(edge.Expression.Sum(terms), dict.fromkeys(names, 0.0))


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
    for condition in where.conditions:
        if condition.any_of:
            must.append(_any_of(condition.field, condition.any_of))
        if condition.none_of:
            must_not.append(_any_of(condition.field, condition.none_of))
        if condition.minimum is not None or condition.maximum is not None:
            span = edge.RangeFloat(gte=condition.minimum, lte=condition.maximum)
            must.append(edge.FieldCondition(condition.field, range=span))
        if condition.text:
            words = edge.MatchText(condition.text)
            must.append(edge.FieldCondition(condition.field, match=words))
    if not must and not must_not:
        return None
    return edge.Filter(must=must or None, must_not=must_not or None)


def _any_of(field: str, values: Collection[Value]) -> Any:
    return edge.FieldCondition(field, match=edge.MatchAny(sorted(values)))
