"""A release on a Qdrant server, opened for reading."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from qdrant_client import models

from catalog.deadline import whole_seconds
from catalog.errors import NoReleaseError
from catalog.model import ANY, Filter, Hit, Point, Search, Song, Vector, by_score
from catalog.schema import DENSE, SONG_FIELDS, SPARSE, cosine_of
from catalog.server.connection import Absent
from catalog.server.queries import (
    Bounds,
    bounds_of,
    cosines_of,
    dense_of,
    filter_of,
    params_of,
    rankings_of,
    request_of,
    song_in,
    strengths_of,
    words_of,
)
from catalog.song import normalise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from qdrant_client import AsyncQdrantClient

    from catalog.manifest import Manifest
    from catalog.server.connection import AsyncNodes

T = TypeVar("T")


class ServerRelease:
    """A release in `collection`, split into `shards` (see `catalog.store.OpenRelease`)."""

    def __init__(
        self, nodes: AsyncNodes, collection: str, manifest: Manifest, shards: int = 1
    ) -> None:
        self._nodes = nodes
        self._sharded = shards > 1
        self._collection = collection
        self._manifest = manifest
        self._fields = [*SONG_FIELDS, *manifest.payload]
        self._params = params_of(manifest)

    @property
    def manifest(self) -> Manifest:
        """The account of the release."""
        return self._manifest

    async def points(self, song_ids: Sequence[UUID]) -> dict[UUID, Point]:
        """The songs of these ids with their vectors; unknown ids are left out."""
        records = await self._retrieve(song_ids, self._fields, DENSE)
        return {UUID(str(record.id)): _point(record) for record in records}

    async def find(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """The songs that each search finds, best first, all asked in one go."""
        bounds = await self._bounds(searches)
        requests = [
            request_of(search, self._fields, self._params, bound)
            for search, bound in zip(searches, bounds, strict=True)
        ]
        found = await self._query(requests)
        return [_hits(search, points) for search, points in zip(searches, found, strict=True)]

    async def _bounds(self, searches: Sequence[Search]) -> list[Bounds]:
        rankings = [rankings_of(one, self._params, sharded=self._sharded) for one in searches]
        predicted, nearest = [[of[kind] for of in rankings] for kind in (0, 1)]
        found = await self._query([*predicted, *nearest])
        both = zip(searches, found[: len(searches)], found[len(searches) :], strict=True)
        return [bounds_of(search, *rankings) for search, *rankings in both]

    async def strengths(self, song_ids: Sequence[UUID]) -> dict[UUID, dict[int, float]]:
        """How strongly each seed, by its ordinal, predicts these songs; unknown ids left out."""
        records = await self._retrieve(song_ids, False, SPARSE)
        return {UUID(str(record.id)): strengths_of(record) for record in records}

    async def similarities(
        self, asked: Sequence[tuple[Vector, Sequence[UUID]]]
    ) -> list[dict[UUID, float]]:
        """The cosines of a vector with these songs, -1 to 1, for each that is asked about."""
        found = await self._query(
            [cosines_of(vector, song_ids) if song_ids else None for vector, song_ids in asked]
        )
        return [
            {UUID(str(point.id)): cosine_of(point.score) for point in points} for points in found
        ]

    async def popular(self, limit: int, where: Filter = ANY) -> list[Point]:
        """At most `limit` songs, those in the most training playlists first."""
        records = await self._by_popularity(limit, filter_of(where), [DENSE])
        return [_point(record) for record in records]

    async def search(self, text: str, limit: int, where: Filter = ANY) -> list[Song]:
        """At most `limit` songs with a word in artist or title for each beginning in `text`."""
        words = normalise(text)
        if not words:
            return []
        passing = filter_of(where, words_of("search_text", words))
        return [song_in(record) for record in await self._by_popularity(limit, passing, False)]

    async def _query(
        self, requests: Sequence[models.QueryRequest | None]
    ) -> list[list[models.ScoredPoint]]:
        """What each request finds, all asked in one go; nothing where it is None."""
        asked = [request for request in requests if request is not None]
        if not asked:
            return [[] for _ in requests]
        responses = iter(
            await self._ask(
                "search",
                lambda client: client.query_batch_points(
                    self._collection, asked, timeout=whole_seconds()
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
        return await self._ask(
            "retrieve",
            lambda client: client.retrieve(
                self._collection,
                ids,
                with_payload=fields,
                with_vectors=[vector],
                timeout=whole_seconds(),
            ),
        )

    async def _by_popularity(
        self, limit: int, where: models.Filter | None, vectors: list[str] | bool
    ) -> list[models.Record]:
        if limit <= 0:
            return []
        records, _ = await self._ask(
            "list songs",
            lambda client: client.scroll(
                self._collection,
                scroll_filter=where,
                limit=limit,
                order_by=models.OrderBy(key="ordinal", direction=models.Direction.ASC),
                with_payload=self._fields,
                with_vectors=vectors,
                timeout=whole_seconds(),
            ),
        )
        return records

    async def _ask(self, task: str, call: Callable[[AsyncQdrantClient], Awaitable[T]]) -> T:
        try:
            return await self._nodes.ask(task, call)
        except Absent as error:
            release = self._manifest.release
            raise NoReleaseError(f"release {release} is not on the server any more") from error

    def close(self) -> None:
        """Let go of the connections."""
        self._nodes.close()


def _point(record: models.Record) -> Point:
    return Point(song_in(record), dense_of(record))


def _hits(search: Search, points: Sequence[models.ScoredPoint]) -> list[Hit]:
    hits = [Hit(song_in(point), float(point.score), dense_of(point)) for point in points]
    hits.sort(key=by_score)
    if search.vector is not None and not search.weights:
        return [replace(hit, score=cosine_of(hit.score)) for hit in hits]
    return hits
