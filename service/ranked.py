"""Ranking by the release's second-stage ranker: candidates of several searches, one order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from catalog.ranking import CHANNELS, features, merged
from service.seeds import Resolution, embed, weigh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalog.ranking import Ranker
    from catalog.release import Hit, Search, Song
    from service.seeds import ResolvedSeed


def searches_of(search: Search, seeds: Sequence[ResolvedSeed]) -> list[Search]:
    """A search for each channel of the ranker, to be asked in one go, with filter and limit."""
    return [
        replace(
            search,
            vector=embed(seeds, channel.decay) if channel.dense else None,
            weights={} if channel.dense else weigh(seeds, channel.decay),
            limit=max(channel.depth, search.limit),
        )
        for channel in CHANNELS
    ]


def ranked(ranker: Ranker, seeds: Sequence[ResolvedSeed], found: Sequence[list[Hit]]) -> list[Hit]:
    """What the channels found, in the order of the ranker's chances, which become the scores."""
    hits = {hit.song.song_id: hit for hits in found for hit in hits}
    if not hits:
        return []
    ids, scores = merged(
        [([hit.song.song_id for hit in some], [hit.score for hit in some]) for some in found]
    )
    songs = [hits[song_id].song for song_id in ids]
    played = _played(seeds)
    artists: dict[str, int] = {}

    def numbers(some: Sequence[Song]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([artists.setdefault(song.artist_key, len(artists)) for song in some])

    table = features(
        scores,
        np.array([song.playlists for song in songs]),
        numbers(songs),
        np.array([song.playlists for song in played]),
        numbers(played),
    )
    chances = ranker.score(table)
    order = np.argsort(-chances, kind="stable")
    return [replace(hits[ids[place]], score=float(chances[place])) for place in order]


def _played(seeds: Sequence[ResolvedSeed]) -> list[Song]:
    """The songs of the playlist as far as they are known; else those that stand in for them."""
    asking = [seed for seed in seeds if seed.weight > 0 and seed.points]
    known = [seed for seed in asking if seed.resolution is Resolution.SONG]
    return [seed.points[0].song for seed in known or asking]
