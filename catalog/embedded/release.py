"""A release in a folder, opened for reading by Qdrant Edge, which runs in this process.

Qdrant Edge, the "engine", holds the global interpreter lock (GIL) during each call, which takes a
few tenths of a millisecond. Threads would therefore not speed up searches. Instead, the methods are
coroutines that let other tasks run between calls (see `catalog.pauses`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import qdrant_edge as edge

from catalog.embedded.queries import (
    build_filter,
    build_request,
    parse_dense_vector,
    parse_point,
    parse_weights,
)
from catalog.errors import CorruptReleaseError, EngineError
from catalog.model import ANY, Filter, Hit, Point, Search, Song
from catalog.pauses import pause_between
from catalog.schema import (
    ACORN_MAX_SELECTIVITY,
    DENSE,
    SONG_FIELDS,
    SPARSE,
    build_row,
    default_search_ef,
    parse_song,
)
from catalog.search.plan import (
    HasWords,
    build_clauses,
    plan_scores,
    plan_search,
    plan_spelling,
    rank_hits,
)
from catalog.song import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from catalog.manifest import Manifest

POINTS_AT_ONCE = 200
"""Number of songs whose payloads and dense vectors are read in one call to the engine."""

WEIGHTS_AT_ONCE = 20
"""Number of songs whose sparse vectors, which can be long, are read in one call to the engine."""

MAX_CACHED_SONGS = 20_000
"""Maximum number of songs in the cache, about 1 kB each.

Songs are cached because reading a song takes longer than finding it."""

MIN_CANARY_SCORE = 0.999
"""Minimum cosine similarity of the best hit for the vector of a canary.

The canaries of a release are songs that are searched to test its index (see `Manifest.canaries`).
"""


@contextmanager
def engine_errors(task: str) -> Iterator[None]:
    """Convert each error that the engine raises in this block to `EngineError`.

    `task` completes the message "Qdrant Edge failed to TASK". The engine raises plain `Exception`s
    and, after a panic of its Rust code, a `BaseException`.
    """
    try:
        yield
    except (EngineError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(f"Qdrant Edge failed to {task}: {first_line}") from error


class EmbeddedRelease:
    """An `OpenRelease` (see `catalog.store`) that reads a release from a folder.

    `shard` is the folder of the release's Qdrant Edge shard. Raises `EngineError` if the engine
    cannot load the shard.
    """

    def __init__(self, shard: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._fields = [*SONG_FIELDS, *manifest.payload]
        self._songs: dict[UUID, Song] = {}
        width = manifest.search_ef or default_search_ef(manifest.counts.songs)
        acorn = edge.AcornSearchParams(enable=True, max_selectivity=ACORN_MAX_SELECTIVITY)
        self._params = edge.SearchParams(hnsw_ef=width, acorn=acorn)
        with engine_errors(f"open {shard}"):
            self._shard = edge.EdgeShard.load(str(shard))

    @property
    def manifest(self) -> Manifest:
        """The manifest of the release."""
        return self._manifest

    def verify(self) -> None:
        """Raise `CorruptReleaseError` if the data in the engine does not match the manifest.

        The number of songs must match, and each canary (see `Manifest.canaries`) must be found by
        its own vector.
        """
        expected = self._manifest.counts.songs
        with engine_errors("count"):
            songs = int(self._shard.count(edge.CountRequest(exact=True)))
        if songs != expected:
            raise CorruptReleaseError(f"the engine holds {songs} songs of {expected}")
        try:
            canaries = [UUID(canary) for canary in self._manifest.canaries]
        except ValueError as error:
            raise CorruptReleaseError("the canaries of the manifest are not song ids") from error
        points = self._points(canaries)
        for canary in canaries:
            vector = points[canary].vector if canary in points else None
            hits = [] if vector is None else self._find(Search(vector, limit=1))
            if not hits or hits[0].score < MIN_CANARY_SCORE:
                raise CorruptReleaseError(f"song {canary} cannot be found by its own vector")

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """Return the song and dense vector for each of these ids. Unknown ids are omitted."""
        points: dict[UUID, Point] = {}
        async for start in pause_between(range(0, len(song_ids), POINTS_AT_ONCE)):
            points |= self._points(song_ids[start : start + POINTS_AT_ONCE])
        return points

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """Return the hits of each search, best first."""
        return [self._find(search) async for search in pause_between(searches)]

    async def cooccurrence_weights(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        """Return the co-occurrence vectors of songs by song id, as weights by index.

        Unknown ids are omitted. For the indexes, see `OpenRelease.cooccurrence_weights`.
        """
        weights: dict[UUID, dict[int, float]] = {}
        async for start in pause_between(range(0, len(song_ids), WEIGHTS_AT_ONCE)):
            ids = list(song_ids[start : start + WEIGHTS_AT_ONCE])
            with engine_errors("retrieve"):
                records = self._shard.retrieve(ids, False, [SPARSE])
            weights |= {record.id: parse_weights(record) for record in records}
        return weights

    async def cooccurrence_scores(
        self, pairs: Sequence[tuple[Mapping[int, float], Sequence[Song]]]
    ) -> list[dict[UUID, float]]:
        """Return, for each pair of seed weights and songs, the scores of the songs by song id.

        See `OpenRelease.cooccurrence_scores`.
        """
        return [
            self._cooccurrence_scores(weights, songs)
            async for weights, songs in pause_between(pairs)
        ]

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """Return at most `limit` songs, sorted by number of training playlists, highest first."""
        passing = build_filter(build_clauses(where))
        return [parse_point(record) for record in self._by_popularity(limit, passing, [DENSE])]

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """Return at most `limit` songs found by artist and title (see `OpenRelease.search`)."""
        passing = build_filter(build_clauses(where, HasWords("search_text", normalise(text))))
        return [parse_song(record.payload) for record in self._by_popularity(limit, passing, None)]

    async def search_spelling(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """Return at most `limit` songs with similar names (see `OpenRelease.search_spelling`)."""
        ranking = plan_spelling(text, limit, where) if self._manifest.has_spelling else None
        if ranking is None:
            return []
        passing = build_filter(build_clauses(where))
        request = build_request(ranking, passing, self._params, with_payload=self._fields)
        return [parse_song(point.payload) for point in self._query(request)]

    def batches(self, size: int = 1_000) -> Iterator[list[dict[str, Any]]]:
        """Yield all songs in batches of `size` rows, as described in `catalog.draft.Draft`."""
        offset = None
        while True:
            request = edge.ScrollRequest(
                limit=size, offset=offset, with_payload=True, with_vector=[DENSE, SPARSE]
            )
            with engine_errors("read songs"):
                records, offset = self._shard.scroll(request)
            yield [
                build_row(record.payload, parse_dense_vector(record), parse_weights(record))
                for record in records
            ]
            if offset is None:
                return

    def with_deadline(self, deadline: float | None) -> EmbeddedRelease:  # noqa: ARG002
        """Return this release. The deadline is ignored: a call to the engine cannot be stopped."""
        return self

    def close(self) -> None:
        """Close the shard."""
        with engine_errors("close"):
            self._shard.close()

    def _points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        with engine_errors("retrieve"):
            records = self._shard.retrieve(list(song_ids), self._fields, [DENSE])
        return {record.id: parse_point(record) for record in records}

    def _find(self, search: Search) -> list[Hit]:
        passing = build_filter(build_clauses(search.where))
        plan = plan_search(search)
        if plan is None:
            return []
        vectors = [DENSE] if search.with_vectors else None
        points = self._query(build_request(plan, passing, self._params, with_vector=vectors))
        song_ids = [point.id for point in points]  # read once: each access to `id` creates a UUID
        songs = self._cache_songs(song_ids)
        hits = [
            Hit(songs[song_id], float(point.score), parse_dense_vector(point) if vectors else None)
            for song_id, point in zip(song_ids, points, strict=True)
        ]
        return rank_hits(search, hits)

    def _cache_songs(self, song_ids: Sequence[UUID]) -> dict[UUID, Song]:
        """Read the songs that are not cached yet, and return all cached songs by song id.

        If the cache is full, it is emptied first.
        """
        missing = [song_id for song_id in song_ids if song_id not in self._songs]
        if len(self._songs) + len(missing) > MAX_CACHED_SONGS:
            self._songs.clear()
            missing = list(song_ids)
        if missing:
            with engine_errors("retrieve"):
                records = self._shard.retrieve(missing, self._fields, False)
            self._songs |= {record.id: parse_song(record.payload) for record in records}
        return self._songs

    def _cooccurrence_scores(
        self, weights: Mapping[int, float], songs: Sequence[Song]
    ) -> dict[UUID, float]:
        plan = plan_scores(weights, songs)
        if plan is None:
            return {}
        ranking, clauses = plan
        request = build_request(ranking, build_filter(clauses), self._params)
        return {point.id: float(point.score) for point in self._query(request)}

    def _query(self, request: Any) -> list[Any]:
        with engine_errors("search"):
            return list(self._shard.query(request))

    def _by_popularity(self, limit: int, passing: Any, vectors: list[str] | None) -> list[Any]:
        request = edge.ScrollRequest(
            limit=limit,
            filter=passing,
            with_payload=self._fields,
            with_vector=vectors,
            order_by=edge.OrderBy("ordinal", edge.Direction.Asc),
        )
        with engine_errors("list songs"):
            records, _ = self._shard.scroll(request)
        return list(records)
