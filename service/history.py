"""Listening history: the last songs of each user, in a Qdrant collection of their own.

A point is one play: no vector, and a payload of the user, the song and the time. Its id follows
from the three, so that what is recorded twice is there once.
"""

from __future__ import annotations

import asyncio
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
"""How often the old plays of users who record none any more are removed."""

_INDEXES = {
    "user": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD),
    "at_ms": models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER),
}


class History:
    """The last `plays` songs of each user, none older than `days`, on `replicas` nodes each.

    All methods raise `UnavailableError` where the server cannot be reached, and `EngineError` where
    it fails.
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
        self._kept_ms = round(days * DAY_MS)
        self._replicas = replicas
        self._made = False

    async def record(self, user: str, plays: Sequence[tuple[UUID, int]]) -> None:
        """Add plays, each of a song at a time in milliseconds since 1970."""
        await self._make()
        points = [
            models.PointStruct(
                id=str(uuid5(NAMESPACE, f"{user}\x1f{song_id}\x1f{at_ms}")),
                vector={},
                payload={"user": user, "song_id": str(song_id), "at_ms": at_ms},
            )
            for song_id, at_ms in plays
        ]
        try:
            await self._put(points)
        except MissingCollectionError:  # somebody removed it since
            self._made = False
            await self._make()
            await self._put(points)
        await self._drop_old(user)

    async def recent(self, user: str) -> list[UUID]:
        """The user's last songs, the most recent last."""
        newest = await self._newest(user, self._plays)
        return [UUID(record.payload["song_id"]) for record in reversed(newest)]

    async def forget(self, user: str) -> bool:
        """Remove all that is known of a user; says whether anything was."""
        known = bool(await self._newest(user, 1, expired=True))
        if known:
            await self._delete(models.Filter(must=[_of(user)]))
        return known

    async def purge(self) -> None:
        """Remove what is too old, whoever heard it."""
        old = models.FieldCondition(key="at_ms", range=models.Range(lt=self._begin_ms()))
        with suppress(MissingCollectionError):
            await self._delete(models.Filter(must=[old]))

    async def purge_at_times(self) -> None:
        """Do so every `PURGE_EVERY_S` seconds, until cancelled."""
        while True:
            # Several processes and replicas need not do it all at once.
            await asyncio.sleep(PURGE_EVERY_S * random.uniform(0.5, 1.5))
            try:
                await self.purge()
            except NextsongError as error:
                log.warning("old plays could not be removed", reason=str(error))

    def close(self) -> None:
        """Let go of the connections."""
        self._nodes.close()

    async def _put(self, points: list[models.PointStruct]) -> None:
        await self._ask("record plays", lambda client: client.upsert(self._collection, points))

    async def _drop_old(self, user: str) -> None:
        newest = await self._newest(user, self._plays + 1, expired=True)
        ends = [self._begin_ms()]
        if len(newest) > self._plays:
            ends.append(newest[self._plays - 1].payload["at_ms"])
        old = models.FieldCondition(key="at_ms", range=models.Range(lt=max(ends)))
        await self._delete(models.Filter(must=[_of(user), old]))

    async def _newest(self, user: str, limit: int, *, expired: bool = False) -> list[Any]:
        conditions: list[Any] = [_of(user)]
        if not expired:
            span = models.Range(gte=self._begin_ms())
            conditions.append(models.FieldCondition(key="at_ms", range=span))
        try:
            records, _ = await self._ask(
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

    async def _delete(self, which: models.Filter) -> None:
        selector = models.FilterSelector(filter=which)
        await self._ask("forget plays", lambda client: client.delete(self._collection, selector))

    async def _make(self) -> None:
        if self._made:
            return
        name = self._collection
        if not await self._ask("look", lambda client: client.collection_exists(name)):
            try:
                await self._ask(
                    "make the history",
                    lambda client: client.create_collection(
                        name, vectors_config={}, replication_factor=self._replicas
                    ),
                )
            except Exception:  # another process was first, or else it is not there
                if not await self._ask("look", lambda client: client.collection_exists(name)):
                    raise
        for field, kind in _INDEXES.items():
            await self._ask(
                "index plays",
                lambda client, field=field, kind=kind: client.create_payload_index(
                    name, field, kind
                ),
            )
        self._made = True

    async def _ask(self, task: str, call: Any) -> Any:
        return await self._nodes.request(task, call)

    def _begin_ms(self) -> int:
        return now_ms() - self._kept_ms


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _of(user: str) -> models.FieldCondition:
    return models.FieldCondition(key="user", match=models.MatchValue(value=user))
