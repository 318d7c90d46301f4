"""Kinds of queries: where a system is good, and where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.intervals import bootstrap
from evaluation.result import Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evaluation.data import Data
    from evaluation.protocol import Queries
    from evaluation.result import Scored

    Kinds = dict[str, dict[str, NDArray[np.bool_]]]

METRICS = ("hr@10", "hr@100", "mrr@10")

LENGTHS = ((1, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, None))
"""Songs of a query, from and to."""

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
            figures = bootstrap(
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
        f"{low} to {high} songs" if high else f"{low} songs or more": (length >= low)
        & (length <= (high or np.inf))
        for low, high in LENGTHS
    }
    share = _share_known(queries, data)
    same_artist = _artist_in_query(queries, data)
    return {
        "length of the query": lengths,
        "popularity of the label": _by_popularity(queries, data),
        "songs of the query that the catalog knows": {
            "none": share == 0,
            "up to half": (share > 0) & (share <= 0.5),
            "more than half": (share > 0.5) & (share < 1),
            "all": share == 1,
        },
        "last song of the query": _by_last_song(queries, data),
        "artist of the label": {
            "is in the query": same_artist,
            "is not in the query": ~same_artist,
        },
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
        "cold: in no training playlist": playlists == 0,
        "cool: in 1 to 4": (playlists >= 1) & (playlists < 5),
        "warm: in 5 or more": playlists >= 5,
    }


def _tiers(data: Data) -> NDArray[np.int64]:
    """For each song 1, 2 or 3 for head, middle and tail, 0 where it is not in the catalog."""
    order = data.songs.by_popularity
    plays = np.cumsum(data.songs.playlists[order])
    before = (plays - data.songs.playlists[order]) / max(1, plays[-1] if len(plays) else 1)
    tiers = np.zeros(len(data.songs), dtype=np.int64)
    tiers[order] = 1 + (before >= HEAD) + (before >= MIDDLE)
    return tiers


def _share_known(queries: Queries, data: Data) -> NDArray[np.float64]:
    seeds = queries.seeds
    known = (seeds.songs >= 0) & data.songs.in_catalog[seeds.songs]
    count = np.bincount(seeds.rows, known, minlength=len(seeds))
    return count / np.maximum(seeds.lengths, 1)


def _artist_in_query(queries: Queries, data: Data) -> NDArray[np.bool_]:
    seeds = queries.seeds
    artist = data.songs.artist
    same = (seeds.songs >= 0) & (artist[seeds.songs] == artist[queries.label][seeds.rows])
    return np.bincount(seeds.rows, same, minlength=len(seeds)) > 0
