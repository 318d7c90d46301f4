"""Listening history: the last plays of each user, in a Qdrant collection apart from the releases.

Each play is a point without a vector, whose payload holds the user, the song and the time. The id
of the point is derived from these three values, so a play that is recorded twice is stored once.
"""

from __future__ import annotations

import asyncio
import copy
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from qdrant_client import models

from catalog.errors import NextsongError
from catalog.server.connection import AsyncNodes
from catalog.server.errors import MissingCollectionError
from catalog.song import NAMESPACE
from service.operate.logs import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.server.options import QdrantOptions

DAY_MS = 86_400_000

PURGE_EVERY_S = 3600.0
"""Mean number of seconds between two removals of expired plays (see `History.purge`)."""

_INDEXES = {
    "user": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD),
    "at_ms": models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER),
}


class History:
    """The most recent plays of each user: at most `plays`, and none older than `days`.

    Each play is stored on `replicas` nodes of a cluster; None selects the default of the Qdrant
    server. `nodes` replaces the connections to the server that `options` describes. All methods
    raise `UnavailableError` if the server cannot be reached, and `EngineError` if it fails.
    """

    def __init__(
        self,
        options: QdrantOptions,
        plays: int,
        days: float,
        replicas: int | None = None,
        *,
        nodes: Any = None,
    ) -> None:
        self._nodes = nodes or AsyncNodes(options)
        self._collection = f"{options.prefix}-history"
        self._plays = plays
        self._max_age_ms = round(days * DAY_MS)
        self._replicas = replicas
        # An event instead of a bool, because the copies that `with_deadline` returns share it.
        self._is_created = asyncio.Event()
        self._deadline: float | None = None

    def with_deadline(self, deadline: float | None) -> History:
        """Return a copy whose requests must end by `deadline`, in seconds of `time.monotonic`."""
        history = copy.copy(self)
        history._deadline = deadline
        return history

    async def record(self, user: str, plays: Sequence[tuple[UUID, int]]) -> None:
        """Add plays, each given as a song id and a time in milliseconds since 1970."""
        await self._create_collection()
        points = [
            models.PointStruct(
                id=str(uuid5(NAMESPACE, f"{user}\x1f{song_id}\x1f{at_ms}")),
                vector={},
                payload={"user": user, "song_id": str(song_id), "at_ms": at_ms},
            )
            for song_id, at_ms in plays
        ]
        try:
            await self._upsert(points)
        except MissingCollectionError:  # the collection was removed while the service was running
            self._is_created.clear()
            await self._create_collection()
            await self._upsert(points)
        await self._drop_old(user)

    async def recent(self, user: str) -> list[UUID]:
        """Return the song ids of the user's last plays, the most recent last."""
        newest = await self._fetch_newest(user, self._plays)
        return [UUID(record.payload["song_id"]) for record in reversed(newest)]

    async def forget(self, user: str) -> bool:
        """Remove all plays of a user, and return whether there were any."""
        has_plays = bool(await self._fetch_newest(user, 1, with_expired=True))
        if has_plays:
            await self._delete(models.Filter(must=[_match_user(user)]))
        return has_plays

    async def purge(self) -> None:
        """Remove the plays of all users that are older than `days`."""
        is_old = models.FieldCondition(key="at_ms", range=models.Range(lt=self._get_begin_ms()))
        with suppress(MissingCollectionError):
            await self._delete(models.Filter(must=[is_old]))

    async def purge_regularly(self) -> None:
        """Call `purge` every `PURGE_EVERY_S` seconds on average, until cancelled."""
        while True:
            # The random factor keeps the processes of the service from purging at the same time.
            await asyncio.sleep(PURGE_EVERY_S * random.uniform(0.5, 1.5))
            try:
                await self.purge()
            except NextsongError as error:
                log.warning("old plays could not be removed", reason=str(error))

    def close(self) -> None:
        """Close the connections to the Qdrant server."""
        self._nodes.close()

    async def _upsert(self, points: list[models.PointStruct]) -> None:
        await self._request("record plays", lambda client: client.upsert(self._collection, points))

    async def _drop_old(self, user: str) -> None:
        newest = await self._fetch_newest(user, self._plays + 1, with_expired=True)
        begins = [self._get_begin_ms()]
        if len(newest) > self._plays:
            begins.append(newest[self._plays - 1].payload["at_ms"])
        is_old = models.FieldCondition(key="at_ms", range=models.Range(lt=max(begins)))
        await self._delete(models.Filter(must=[_match_user(user), is_old]))

    async def _fetch_newest(
        self, user: str, limit: int, *, with_expired: bool = False
    ) -> list[Any]:
        conditions: list[Any] = [_match_user(user)]
        if not with_expired:
            span = models.Range(gte=self._get_begin_ms())
            conditions.append(models.FieldCondition(key="at_ms", range=span))
        try:
            records, _ = await self._request(
                "read plays",
                lambda client: client.scroll(
                    self._collection,
                    scroll_filter=models.Filter(must=conditions),
                    limit=limit,
                    order_by=models.OrderBy(key="at_ms", direction=models.Direction.DESC),
                    with_payload=True,
                ),
            )
        except MissingCollectionError:
            return []
        return list(records)

    async def _delete(self, condition: models.Filter) -> None:
        selector = models.FilterSelector(filter=condition)
        await self._request(
            "forget plays", lambda client: client.delete(self._collection, selector)
        )

    async def _create_collection(self) -> None:
        if self._is_created.is_set():
            return
        name = self._collection
        request = self._request
        if not await self._exists():
            try:
                await request(
                    "create the history",
                    lambda client: client.create_collection(
                        name, vectors_config={}, replication_factor=self._replicas
                    ),
                )
            except Exception:  # another process may have created the collection
                if not await self._exists():
                    raise
        for field, kind in _INDEXES.items():
            await request(
                "index plays",
                lambda client, field=field, kind=kind: client.create_payload_index(
                    name, field, kind
                ),
            )
        self._is_created.set()

    async def _exists(self) -> bool:
        return bool(
            await self._request(
                "look for the history", lambda client: client.collection_exists(self._collection)
            )
        )

    async def _request(self, task: str, call: Any) -> Any:
        return await self._nodes.request(task, call, self._deadline)

    def _get_begin_ms(self) -> int:
        return now_ms() - self._max_age_ms


def now_ms() -> int:
    """Return the current time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _match_user(user: str) -> models.FieldCondition:
    return models.FieldCondition(key="user", match=models.MatchValue(value=user))
