"""Baselines that do not look at the query, but to leave its songs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.protocol.cases import Queries
    from evaluation.protocol.dataset import Data, Numbers

BATCH = 512


class Popularity:
    """The songs in the most training playlists."""

    key, name = "popularity", "popularity"

    def __init__(self, data: Data) -> None:
        self._ranking = data.songs.by_popularity

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, the most popular songs but its own, in batches."""
        for start in range(0, len(queries), BATCH):
            seeds = queries.seeds.take(slice(start, start + BATCH))
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            for row in range(len(seeds)):
                own = seeds[row]
                first = self._ranking[: limit + len(own)]
                left = first[~np.isin(first, own)][:limit]
                rankings[row, : len(left)] = left
            yield rankings


class Random:
    """Songs of the catalog, drawn at random, all alike."""

    key, name = "random", "random"

    def __init__(self, data: Data) -> None:
        self._songs = data.songs.by_popularity
        self._seed = data.seed

    def recommend(self, queries: Queries, limit: int) -> Iterator[Numbers]:
        """For each query in turn, different songs that it does not hold, in batches."""
        random = np.random.default_rng(self._seed)
        for start in range(0, len(queries), BATCH):
            seeds = queries.seeds.take(slice(start, start + BATCH))
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            for row in range(len(seeds)):
                own = seeds[row]
                wanted = min(len(self._songs), limit + len(own))
                drawn = self._songs[random.choice(len(self._songs), wanted, replace=False)]
                left = drawn[~np.isin(drawn, own)][:limit]
                rankings[row, : len(left)] = left
            yield rankings
