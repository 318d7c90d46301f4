"""Query playlist -> ranked songs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from catalog.errors import UnknownSongError
from catalog.release import ANY, Filter, Hit, Song, song_ids
from service.seeds import Resolution, ResolvedSeed, embed, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.release import OpenRelease
    from service.seeds import Seed


LONGEST_NAME = 100
"""Longer names are cut in messages: a gRPC status with more than a few kB never arrives."""


class Strategy(Enum):
    """What answered: the best knowledge that could be had of the seeds."""

    SEEDS = "seeds"
    ARTISTS = "artists"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class Answer:
    """Ranked songs, best first, what answered, and how each seed was understood."""

    songs: list[Hit]
    strategy: Strategy
    seeds: list[ResolvedSeed]


async def recommend(
    release: OpenRelease, seeds: Sequence[Seed], limit: int = 10, where: Filter = ANY
) -> Answer:
    """Say which songs should come next after the seeds, in play order, the last the most recent.

    Seeds are never recommended back. Where no seed is known, the songs of their artists ask in
    their place; where no artist is known either, the most popular songs answer.
    """
    resolved = await resolve(release, seeds)
    known = [seed for seed in resolved if seed.resolution is Resolution.SONG]
    own = song_ids([point for seed in known for point in seed.points])
    where = replace(where, exclude_songs=where.exclude_songs | own)
    strategy = Strategy.SEEDS if known else Strategy.ARTISTS
    asking = [
        seed if seed.resolution is Resolution.SONG or not known else replace(seed, points=())
        for seed in resolved
    ]
    decay = float(release.manifest.origin.parameters["query_decay"])
    vector = embed(asking, decay)
    if vector is None:
        return Answer(await _popular(release, limit, where), Strategy.POPULAR, resolved)
    return Answer(await release.nearest(vector, limit, where), strategy, resolved)


async def similar(
    release: OpenRelease, seed: Seed, limit: int = 10, where: Filter = ANY
) -> tuple[Song, list[Hit]]:
    """The song as the catalog has it, and those nearest to it, itself left out.

    Raises `UnknownSongError`.
    """
    (resolved,) = await resolve(release, [seed])
    if resolved.resolution is not Resolution.SONG:
        name = str(seed.song_id or f"{seed.artist} - {seed.title}")
        if len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}..."
        raise UnknownSongError(f"the catalog has no song {name}; look for it with SearchSongs")
    (point,) = resolved.points
    where = replace(where, exclude_songs=where.exclude_songs | {point.song.song_id})
    return point.song, await release.nearest(point.vector, limit, where)


async def _popular(release: OpenRelease, limit: int, where: Filter) -> list[Hit]:
    playlists = max(1, release.manifest.counts.training_playlists)
    points = await release.popular(limit, where)
    return [Hit(point.song, point.song.playlists / playlists) for point in points]
