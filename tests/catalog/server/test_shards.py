"""A release in several shards, each of which fuses its own songs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
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

    from catalog.model import Hit
    from catalog.server.store import ServerStore
    from tests.support.store_content import Content


SHARDS = 3


class Shards:
    """Nodes of a sharded collection. Each shard is an emulated server with a part of the songs."""

    def __init__(self, stores: list[ServerStore]) -> None:
        self._homes = stores
        self.requests = 0

    async def request(self, _task: str, call: Any, _deadline: float | None) -> Any:
        self.requests += 1
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
    """A list that contains a store with all songs, and then a store for each shard."""
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
    "all songs are fused": replace(QUERY, limit=500),
    "few songs pass": replace(QUERY, where=Filter(max_playlists=90)),
    "nothing passes": replace(QUERY, where=Filter(include_artists=frozenset({"nobody"}))),
    "by similarity": replace(QUERY, weights={}),
    "by co-occurrence": replace(QUERY, vector=None),
    "with a negative seed": replace(QUERY, vector=None, weights={**QUERY.weights, 7: -0.5}),
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_several_shards_find_the_same_as_one(stores: list[ServerStore], search: Search) -> None:
    expected, hits = find_in_one_and_in_several(stores, search)
    assert [hit.song for hit in hits] == [hit.song for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected])
    assert bool(hits) == (search is not SEARCHES["nothing passes"])


@pytest.mark.parametrize("limit", [30, 150])
def test_several_shards_fuse_at_least_what_one_fuses(stores: list[ServerStore], limit: int) -> None:
    # If all songs are fused, the score of each song includes the sparse and the dense score.
    complete = {
        hit.song: hit.score
        for hit in find_in_one_and_in_several(stores, replace(QUERY, limit=500))[0]
    }
    one, several = find_in_one_and_in_several(stores, replace(QUERY, limit=limit))
    in_one = {hit.song: abs(hit.score - complete[hit.song]) for hit in one}
    assert len(several) == len(one) == limit
    for hit in several:
        missing = abs(hit.score - complete[hit.song])
        assert missing <= in_one.get(hit.song, np.inf) + 1e-6
    assert [hit.score for hit in one] != pytest.approx([hit.score for hit in several])


def test_searches_of_all_kinds_are_one_request(stores: list[ServerStore]) -> None:
    whole, *parts = stores
    nodes: Any = Shards(parts)
    release = ServerRelease(nodes, "", whole.manifest(whole.current() or ""))
    hits = run(release.find([QUERY, *SEARCHES.values()]))
    assert len(hits[0]) == QUERY.limit
    assert nodes.requests == 1


def find_in_one_and_in_several(
    stores: list[ServerStore], search: Search
) -> tuple[list[Hit], list[Hit]]:
    whole, *parts = stores
    nodes: Any = Shards(parts)
    several = ServerRelease(nodes, "", whole.manifest(whole.current() or ""))
    return run(whole.open().find([search]))[0], run(several.find([search]))[0]
