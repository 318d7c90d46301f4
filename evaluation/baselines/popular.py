"""Baselines that use the query only to exclude its songs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.baselines.top import batch_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.protocol.cases import HeldOutCases
    from evaluation.protocol.dataset import Dataset, SongNumbers


class Popularity:
    """Recommends the songs that are in the most training playlists."""

    key, name = "popularity", "popularity"

    def __init__(self, dataset: Dataset) -> None:
        self._ranking = dataset.songs.by_popularity

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield the most popular songs for each case, in batches of shape (n, limit)."""
        for seeds in batch_seeds(cases, limit):
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            for row in range(len(seeds)):
                candidates = self._ranking[: limit + len(seeds[row])]
                songs = candidates[~np.isin(candidates, seeds[row])][:limit]
                rankings[row, : len(songs)] = songs
            yield rankings


class Random:
    """Recommends songs of the catalog, drawn at random with equal probability."""

    key, name = "random", "random"

    def __init__(self, dataset: Dataset) -> None:
        self._songs = dataset.songs.by_popularity
        self._seed = dataset.seed

    def recommend(self, cases: HeldOutCases, limit: int) -> Iterator[SongNumbers]:
        """Yield distinct random songs for each case, in batches of shape (n, limit)."""
        random = np.random.default_rng(self._seed)
        for seeds in batch_seeds(cases, limit):
            rankings = np.full((len(seeds), limit), -1, dtype=np.int32)
            for row in range(len(seeds)):
                count = min(len(self._songs), limit + len(seeds[row]))
                drawn = self._songs[random.choice(len(self._songs), count, replace=False)]
                songs = drawn[~np.isin(drawn, seeds[row])][:limit]
                rankings[row, : len(songs)] = songs
            yield rankings
