"""A release on a Qdrant server, opened for reading."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from qdrant_client import models

from catalog.errors import NoReleaseError
from catalog.model import ANY, Filter, Hit, Point, Search, Song
from catalog.schema import DENSE, SONG_FIELDS, SPARSE, parse_song
from catalog.search.plan import (
    HasWords,
    build_clauses,
    plan_scores,
    plan_search,
    plan_spelling,
    rank_hits,
)
from catalog.server.connection import whole_seconds_left
from catalog.server.errors import MissingCollectionError
from catalog.server.queries import (
    build_filter,
    build_request,
    build_search_params,
    parse_dense_vector,
    parse_point,
    parse_weights,
)
from catalog.song import normalise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from qdrant_client import AsyncQdrantClient

    from catalog.manifest import Manifest
    from catalog.server.connection import AsyncNodes

T = TypeVar("T")


class ServerRelease:
    """An `OpenRelease` (see `catalog.store`) that reads a release from a collection.

    In a hybrid search, each shard of the collection fuses the sparse and the dense ranking of its
    own songs. Therefore, with several shards, more songs are ranked in total, and more of them have
    both a sparse and a dense score than with one shard.
    """

    def __init__(self, nodes: AsyncNodes, collection: str, manifest: Manifest) -> None:
        self._nodes = nodes
        self._collection = collection
        self._manifest = manifest
        self._fields = [*SONG_FIELDS, *manifest.payload]
        self._params = build_search_params(manifest)
        self._deadline: float | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest of the release."""
        return self._manifest

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """Return the song and dense vector for each of these ids. Unknown ids are omitted."""
        records = await self._retrieve(song_ids, self._fields, DENSE)
        return {UUID(str(record.id)): parse_point(record) for record in records}

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """Return the hits of each search, best first. All searches are sent in one request."""
        responses = await self._query([self._build_request(search) for search in searches])
        return [
            rank_hits(search, [_parse_hit(point) for point in points])
            for search, points in zip(searches, responses, strict=True)
        ]

    async def cooccurrence_weights(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        """Return the co-occurrence vectors of songs by song id, as weights by index.

        Unknown ids are omitted. For the indexes, see `OpenRelease.cooccurrence_weights`.
        """
        records = await self._retrieve(song_ids, False, SPARSE)
        return {UUID(str(record.id)): parse_weights(record) for record in records}

    async def cooccurrence_scores(
        self, pairs: Sequence[tuple[Mapping[int, float], Sequence[Song]]]
    ) -> list[dict[UUID, float]]:
        """Return, for each pair of seed weights and songs, the scores of the songs by song id.

        All pairs are sent in one request. See `OpenRelease.cooccurrence_scores`.
        """
        requests: list[models.QueryRequest | None] = []
        for weights, songs in pairs:
            plan = plan_scores(weights, songs)
            if plan is None:
                requests.append(None)
                continue
            ranking, clauses = plan
            requests.append(build_request(ranking, build_filter(clauses), self._params))
        responses = await self._query(requests)
        return [{UUID(str(point.id)): point.score for point in points} for points in responses]

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """Return at most `limit` songs, sorted by number of training playlists, highest first."""
        records = await self._by_popularity(limit, build_filter(build_clauses(where)), [DENSE])
        return [parse_point(record) for record in records]

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """Return at most `limit` songs found by artist and title (see `OpenRelease.search`)."""
        words = normalise(text)
        if not words:
            return []
        passing = build_filter(build_clauses(where, HasWords("search_text", words)))
        records = await self._by_popularity(limit, passing, False)
        return [parse_song(record.payload or {}) for record in records]

    async def search_spelling(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """Return at most `limit` songs with similar names (see `OpenRelease.search_spelling`)."""
        ranking = plan_spelling(text, limit, where) if self._manifest.has_spelling else None
        if ranking is None:
            return []
        passing = build_filter(build_clauses(where))
        request = build_request(ranking, passing, self._params, self._fields)
        (points,) = await self._query([request])
        return [parse_song(point.payload or {}) for point in points]

    def _build_request(self, search: Search) -> models.QueryRequest | None:
        plan = plan_search(search)
        passing = build_filter(build_clauses(search.where))
        return build_request(plan, passing, self._params, self._fields) if plan else None

    async def _query(
        self, requests: Sequence[models.QueryRequest | None]
    ) -> list[list[models.ScoredPoint]]:
        """Send all requests in one call, and return the points that match each request.

        If a request is None, it is not sent, and the list of points is empty.
        """
        batch = [request for request in requests if request is not None]
        if not batch:
            return [[] for _ in requests]
        responses = iter(
            await self._request(
                "search",
                lambda client: client.query_batch_points(
                    self._collection, batch, timeout=whole_seconds_left(self._deadline)
                ),
            )
        )
        return [[] if request is None else next(responses).points for request in requests]

    async def _retrieve(
        self, song_ids: Sequence[UUID], fields: list[str] | bool, vector: str
    ) -> list[models.Record]:
        ids: list[Any] = [str(song_id) for song_id in song_ids]
        if not ids:
            return []
        return await self._request(
            "retrieve",
            lambda client: client.retrieve(
                self._collection,
                ids,
                with_payload=fields,
                with_vectors=[vector],
                timeout=whole_seconds_left(self._deadline),
            ),
        )

    async def _by_popularity(
        self, limit: int, passing: models.Filter | None, vectors: list[str] | bool
    ) -> list[models.Record]:
        if limit <= 0:
            return []
        records, _ = await self._request(
            "list songs",
            lambda client: client.scroll(
                self._collection,
                scroll_filter=passing,
                limit=limit,
                order_by=models.OrderBy(key="ordinal", direction=models.Direction.ASC),
                with_payload=self._fields,
                with_vectors=vectors,
                timeout=whole_seconds_left(self._deadline),
            ),
        )
        return records

    async def _request(self, task: str, call: Callable[[AsyncQdrantClient], Awaitable[T]]) -> T:
        try:
            return await self._nodes.request(task, call, self._deadline)
        except MissingCollectionError as error:
            release = self._manifest.release
            raise NoReleaseError(f"release {release} is not on the server any more") from error

    def with_deadline(self, deadline: float | None) -> ServerRelease:
        """Return a copy whose requests must end by `deadline`, a time of `time.monotonic`."""
        release = copy.copy(self)
        release._deadline = deadline
        return release

    def close(self) -> None:
        """Close the connections."""
        self._nodes.close()


def _parse_hit(point: models.ScoredPoint) -> Hit:
    return Hit(parse_song(point.payload or {}), float(point.score), parse_dense_vector(point))
