"""Several shards, each of which fuses its own songs, return the same hits as one shard."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from catalog.console.progress import SilentReporter
from catalog.model import Filter, Search
from catalog.server.release import ServerRelease
from tests.support.embedded_releases import run
from tests.support.qdrant_servers import memory_store
from tests.support.server_content import QUERY

if TYPE_CHECKING:
    from pathlib import Path

    from qdrant_client import models

    from catalog.server.store import ServerStore
    from tests.support.store_content import Content


SHARDS = 3


class Shards:
    """Nodes of a sharded collection: each shard is an emulation with a part of the songs."""

    def __init__(self, stores: list[ServerStore]) -> None:
        self._homes = stores

    async def request(self, _task: str, call: Any, _deadline: float | None) -> Any:
        return await call(self)

    async def query_batch_points(
        self, _collection: str, requests: list[models.QueryRequest], **more: Any
    ) -> list[models.QueryResponse]:
        found = [
            store.nodes.client.query_batch_points(
                store.collection(store.current() or ""), requests, **more
            )
            for store in self._homes
        ]
        return [
            _together([shard[place] for shard in found], request.limit or 10)
            for place, request in enumerate(requests)
        ]


def _together(responses: list[models.QueryResponse], limit: int) -> models.QueryResponse:
    points = [point for response in responses for point in response.points]
    points.sort(key=lambda point: -point.score)
    return responses[0].model_copy(update={"points": points[:limit]})


@pytest.fixture(scope="module")
def stores(content: Content, tmp_path_factory: pytest.TempPathFactory) -> list[ServerStore]:
    """A store with all songs, followed by a store for each shard."""
    all_songs = pq.read_table(content.draft.songs_path)
    drafts = [content.draft]
    for shard in range(SHARDS):
        path: Path = tmp_path_factory.mktemp("shard") / "songs.parquet"
        songs = all_songs.take(list(range(shard, len(all_songs), SHARDS)))
        pq.write_table(songs, path)
        counts = replace(content.draft.counts, songs=len(songs))
        drafts.append(replace(content.draft, songs_path=path, counts=counts))
    made = [memory_store() for _ in drafts]
    for store, draft in zip(made, drafts, strict=True):
        store.publish(draft, SilentReporter())
    return made


SEARCHES = {
    "both": QUERY,
    "one song": replace(QUERY, limit=1),
    "a limit above the minimum fusion depth": replace(QUERY, limit=150),
    "pushed away": replace(QUERY, weights={**QUERY.weights, 7: -0.5}),
    "filtered": replace(QUERY, where=Filter(max_playlists=90)),
    "nothing passes": replace(QUERY, where=Filter(include_artists=frozenset({"nobody"}))),
    "by similarity": replace(QUERY, weights={}),
    "by co-occurrence": replace(QUERY, vector=None),
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_several_shards_return_the_same_hits_as_one(
    stores: list[ServerStore], search: Search
) -> None:
    whole, *parts = stores
    nodes: Any = Shards(parts)
    manifest = whole.manifest(whole.current() or "")
    several = ServerRelease(nodes, "", manifest, shards=SHARDS)
    (expected,), (found,) = run(whole.open().find([search])), run(several.find([search]))
    assert [hit.song for hit in found] == [hit.song for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])
    assert bool(found) == (search is not SEARCHES["nothing passes"])


def test_without_bounds_several_shards_return_other_hits(stores: list[ServerStore]) -> None:
    whole, *parts = stores
    nodes: Any = Shards(parts)
    several = ServerRelease(nodes, "", whole.manifest(whole.current() or ""), shards=1)
    search = SEARCHES["both"]
    (expected,), (found,) = run(whole.open().find([search])), run(several.find([search]))
    assert [hit.score for hit in found] != pytest.approx([hit.score for hit in expected])
