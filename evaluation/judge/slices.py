"""Kinds of queries: where a system is good, and where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.judge.intervals import estimate
from evaluation.judge.result import Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evaluation.judge.result import Scored
    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data

    Kinds = dict[str, dict[str, NDArray[np.bool_]]]

METRICS = ("hr@10", "hr@100", "mrr@10")

LENGTHS = ((1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, None))
"""Songs of a query, from and to: one alone is the thinnest query that there is."""

HEAD, MIDDLE = 0.5, 0.9
"""The most popular songs that make up half of all training plays are the head; those that make up
the next four tenths the middle; the others the tail."""


def sliced(systems: Sequence[Scored], queries: Queries, data: Data) -> list[Slice]:
    """The figures of each system on each kind of query; kinds that no query is of are left out."""
    found = []
    for group, members in kinds(queries, data).items():
        for name, chosen in members.items():
            if not chosen.any():
                continue
            figures = estimate(
                {
                    f"{system.key}\t{metric}": system.per_query[metric][chosen]
                    for system in systems
                    for metric in METRICS
                    if metric in system.per_query
                }
            )
            by_system = {
                system.key: {
                    metric: figures[f"{system.key}\t{metric}"]
                    for metric in METRICS
                    if f"{system.key}\t{metric}" in figures
                }
                for system in systems
            }
            found.append(Slice(group, name, int(chosen.sum()), by_system))
    return found


def kinds(queries: Queries, data: Data) -> Kinds:
    """Which queries are of each kind: group -> name -> shape (queries,)."""
    length = queries.seeds.lengths
    lengths = {
        _songs(low, high): (length >= low) & (length <= (high or np.inf)) for low, high in LENGTHS
    }
    same_artist = _artist_in_query(queries, data)
    return {
        "length of the query": lengths,
        "popularity of the label": _by_popularity(queries, data),
        "known songs of the query": _by_known(queries, data),
        "vectors of the query": _by_vectors(queries, data),
        "last song of the query": _by_last_song(queries, data),
        "artist of the label": {
            "is in the query": same_artist,
            "is not in the query": ~same_artist,
        },
    }


def _songs(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} songs or more"
    return f"{low} to {high} songs" if high > low else "1 song"


def _by_known(queries: Queries, data: Data) -> dict[str, NDArray[np.bool_]]:
    """By how many songs the catalog has, and where it has none, by whether it has their artists."""
    seeds, songs = queries.seeds, data.songs
    known = (seeds.songs >= 0) & songs.in_catalog[seeds.songs]
    share = np.bincount(seeds.rows, known, minlength=len(seeds)) / np.maximum(seeds.lengths, 1)
    has_songs = np.zeros(int(songs.artist.max(initial=0)) + 1, dtype=bool)
    has_songs[songs.artist[songs.by_popularity]] = True
    of_artist = (seeds.songs >= 0) & has_songs[songs.artist[seeds.songs]]
    artists = np.bincount(seeds.rows, of_artist, minlength=len(seeds)) > 0
    return {
        "none, no artist either": (share == 0) & ~artists,
        "none, but artists": (share == 0) & artists,
        "up to half": (share > 0) & (share <= 0.5),
        "more than half": (share > 0.5) & (share < 1),
        "all": share == 1,
    }


def _by_vectors(queries: Queries, data: Data) -> dict[str, NDArray[np.bool_]]:
    """By how many of the known songs are in `min_count` training playlists: the others have no
    dense vector, and ask by co-occurrence alone.
    """
    seeds, songs = queries.seeds, data.songs
    known = (seeds.songs >= 0) & songs.in_catalog[seeds.songs]
    dense = known & (songs.playlists[seeds.songs] >= data.min_count)
    of_known = np.bincount(seeds.rows, known, minlength=len(seeds))
    of_dense = np.bincount(seeds.rows, dense, minlength=len(seeds))
    return {
        "no song is known": of_known == 0,
        "all below min_count": (of_known > 0) & (of_dense == 0),
        "some below min_count": (of_dense > 0) & (of_dense < of_known),
        "none below min_count": (of_dense > 0) & (of_dense == of_known),
    }


def _by_popularity(queries: Queries, data: Data) -> dict[str, NDArray[np.bool_]]:
    tier = _tiers(data)[queries.label]
    return {
        "head: half of all plays": tier == 1,
        "middle: the next 40%": tier == 2,
        "tail: the last 10%": tier == 3,
        "not in the catalog": tier == 0,
    }


def _by_last_song(queries: Queries, data: Data) -> dict[str, NDArray[np.bool_]]:
    last = queries.seeds.songs[queries.seeds.offsets[1:] - 1]
    playlists = np.where(last >= 0, data.songs.playlists[last], 0)
    return {
        "cold: in no playlist": playlists == 0,
        "cool: below min_count": (playlists >= 1) & (playlists < data.min_count),
        "warm: min_count or more": playlists >= max(1, data.min_count),
    }


def _tiers(data: Data) -> NDArray[np.int64]:
    """For each song 1, 2 or 3 for head, middle and tail, 0 where it is not in the catalog."""
    order = data.songs.by_popularity
    plays = np.cumsum(data.songs.playlists[order])
    before = (plays - data.songs.playlists[order]) / max(1, plays[-1] if len(plays) else 1)
    tiers = np.zeros(len(data.songs), dtype=np.int64)
    tiers[order] = 1 + (before >= HEAD) + (before >= MIDDLE)
    return tiers


def _artist_in_query(queries: Queries, data: Data) -> NDArray[np.bool_]:
    seeds = queries.seeds
    artist = data.songs.artist
    same = (seeds.songs >= 0) & (artist[seeds.songs] == artist[queries.label][seeds.rows])
    return np.bincount(seeds.rows, same, minlength=len(seeds)) > 0
