"""Ranking by the release's second-stage ranker: candidates of several searches, one order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from catalog.model import Hit
from catalog.reranker import CHANNELS, RECENT, SongTraits, features, merge_candidates
from service.recommend.seeds import Resolution, embed, weigh

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from catalog.model import Search, Song, Vector
    from catalog.reranker import Reranker
    from catalog.store import OpenRelease
    from service.recommend.seeds import ResolvedSeed

DEEPEST_CHANNEL = max(channel.depth for channel in CHANNELS)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the channels found for a playlist.

    `hits` are the songs, in the order they come up first; `scores`, shape (channels, n), what each
    channel scored them, NaN where it lacks one; `played` the songs of the playlist; `recent` the
    mean vector of the last of them, if they have any.
    """

    hits: list[Hit]
    scores: NDArray[np.float64]
    played: list[Song]
    recent: Vector | None


def searches_of(search: Search, seeds: Sequence[ResolvedSeed]) -> list[Search]:
    """A search for each channel of the ranker, to be asked in one go.

    Each goes as deep as in training, as ranks and scores mean something else among others; deeper
    only where more songs are wanted than the deepest of them finds.
    """
    return [
        replace(
            search,
            vector=embed(seeds, channel.decay) if channel.dense else None,
            weights={} if channel.dense else weigh(seeds, channel.decay),
            limit=channel.depth if search.limit <= DEEPEST_CHANNEL else search.limit,
        )
        for channel in CHANNELS
    ]


def candidates_of(seeds: Sequence[ResolvedSeed], found: Sequence[list[Hit]]) -> Candidates:
    """The songs that the channels found, each once."""
    hits: dict[int, Hit] = {}
    lists = []
    for some in found:
        ordinals = [hit.song.ordinal for hit in some]
        hits |= zip(ordinals, some, strict=True)
        scores = np.array([hit.score for hit in some], np.float64)
        lists.append((np.array(ordinals, np.int64), scores))
    songs, scores = merge_candidates(lists)
    played = _played(seeds)
    recent = embed(played[-RECENT:], 1.0)
    return Candidates(
        [hits[ordinal] for ordinal in songs.tolist()],
        scores,
        [seed.points[0].song for seed in played],
        recent,
    )


async def similarities(
    release: OpenRelease, several: Sequence[Candidates]
) -> list[dict[UUID, float]]:
    """For each playlist the candidates' cosines with the last of its songs, asked in one go."""
    asked = [
        (one.recent, [hit.song.song_id for hit in one.hits])
        for one in several
        if one.recent is not None and one.hits
    ]
    answers = iter(await release.similarities(asked) if asked else [])
    return [next(answers) if one.recent is not None and one.hits else {} for one in several]


def ranked(ranker: Reranker, found: Candidates, cosines: dict[UUID, float]) -> list[Hit]:
    """The candidates in the order of the ranker's chances, which become the scores."""
    if not found.hits:
        return []
    songs = [hit.song for hit in found.hits]
    similar = np.array([cosines.get(song.song_id, np.nan) for song in songs])
    numbers: list[dict[Any, int]] = [{} for _ in ("artist", *ranker.fields)]
    of_seeds = _traits(found.played, ranker.fields, numbers)
    table = features(found.scores, similar, _traits(songs, ranker.fields, numbers), of_seeds)
    chances = ranker.score(table)
    return [
        Hit(songs[place], float(chances[place]), found.hits[place].vector)
        for place in np.argsort(-chances, kind="stable").tolist()
    ]


def _traits(
    songs: Sequence[Song], fields: Sequence[str], numbers: list[dict[Any, int]]
) -> SongTraits:
    """What songs are like; `numbers` keeps the number of each artist and each value of a field."""
    groups = np.empty((len(numbers), len(songs)), np.int64)
    of_artist, *of_fields = numbers
    groups[0] = [of_artist.setdefault(song.artist_key, len(of_artist)) for song in songs]
    for row, name, own in zip(groups[1:], fields, of_fields, strict=True):
        values = [song.extra.get(name) for song in songs]
        row[:] = [-1 if value is None else own.setdefault(value, len(own)) for value in values]
    return SongTraits(np.array([song.playlists for song in songs]), groups)


def _played(seeds: Sequence[ResolvedSeed]) -> list[ResolvedSeed]:
    """The songs of the playlist as far as they are known; else those that stand in for them."""
    asking = [seed for seed in seeds if seed.weight > 0 and seed.points]
    return [seed for seed in asking if seed.resolution is Resolution.SONG] or asking
