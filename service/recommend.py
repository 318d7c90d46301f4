"""Query playlist -> ranked songs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from catalog.errors import UnknownSongError
from catalog.release import ANY, Filter, Hit, Song, song_ids
from service.seeds import Resolution, ResolvedSeed, embed, resolve, weigh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.release import OpenRelease
    from service.seeds import Seed


LONGEST_NAME = 100
"""Longer names are cut in messages: a gRPC status with more than a few kB never arrives."""


class Mode(Enum):
    """By what songs are ranked: Word2Vec vectors, co-occurrence in playlists, or both, fused."""

    DENSE = "dense"
    COOCCURRENCE = "cooccurrence"
    HYBRID = "hybrid"


class Strategy(Enum):
    """What answered: the best knowledge that could be had of the seeds."""

    SEEDS = "seeds"
    ARTISTS = "artists"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class Answer:
    """Ranked songs, best first, what answered, and how each seed was understood.

    `mode` is None where popularity answered.
    """

    songs: list[Hit]
    strategy: Strategy
    mode: Mode | None
    seeds: list[ResolvedSeed]


async def recommend(
    release: OpenRelease,
    seeds: Sequence[Seed],
    limit: int = 10,
    where: Filter = ANY,
    mode: Mode = Mode.HYBRID,
) -> Answer:
    """Say which songs should come next after the seeds, in play order, the last the most recent.

    Seeds are never recommended back. Where no seed is known, the songs of their artists ask in
    their place; where no artist is known either, the most popular songs answer. Where the songs
    that ask lack what `mode` needs, being too rare for a vector or never in company, the other kind
    of search answers.
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
    songs, used = await _ranked(release, asking, limit, where, mode)
    if used is None:
        return Answer(await _popular(release, limit, where), Strategy.POPULAR, None, resolved)
    return Answer(songs, strategy, used, resolved)


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
    hits, _ = await _ranked(release, [resolved], limit, where, Mode.DENSE)
    return point.song, hits


async def _ranked(
    release: OpenRelease, seeds: Sequence[ResolvedSeed], limit: int, where: Filter, mode: Mode
) -> tuple[list[Hit], Mode | None]:
    parameters = release.manifest.origin.parameters
    decay = float(parameters["query_decay"])
    vector = None if mode is Mode.COOCCURRENCE else embed(seeds, decay)
    weights = {} if mode is Mode.DENSE and vector is not None else weigh(seeds, decay)
    if vector is not None and weights:
        dense_weight = float(parameters["dense_weight"])
        return await release.fused(vector, weights, dense_weight, limit, where), Mode.HYBRID
    if vector is not None:
        return await release.nearest(vector, limit, where), Mode.DENSE
    if weights:
        return await release.predicted(weights, limit, where), Mode.COOCCURRENCE
    return [], None


async def _popular(release: OpenRelease, limit: int, where: Filter) -> list[Hit]:
    playlists = max(1, release.manifest.counts.training_playlists)
    points = await release.popular(limit, where)
    return [Hit(point.song, point.song.playlists / playlists) for point in points]
