"""Functions that call the API methods without a server, with a default seed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nextsong.v1 import recommender_pb2 as pb
from service.api import methods

if TYPE_CHECKING:
    from catalog.store import OpenRelease

NOBODY = str(UUID(int=1))
SEED = pb.Seed(artist="abba", title="waterloo")


def recommend(release: OpenRelease, **fields: Any) -> pb.RecommendResponse:
    fields = {"seeds": [SEED]} | fields
    return asyncio.run(methods.recommend(release, pb.RecommendRequest(**fields)))


def similar(release: OpenRelease, **fields: Any) -> pb.SimilarSongsResponse:
    fields = {"song": SEED} | fields
    return asyncio.run(methods.similar_songs(release, pb.SimilarSongsRequest(**fields)))


def search(release: OpenRelease, **fields: Any) -> pb.SearchSongsResponse:
    return asyncio.run(methods.search_songs(release, pb.SearchSongsRequest(**fields)))


def named(song_id: str) -> pb.Seed:
    return pb.Seed(song_id=song_id)


def ids(response: Any) -> list[str]:
    return [scored.song.song_id for scored in response.songs]
